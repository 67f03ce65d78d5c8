"""The provider that asks models through litellm."""
