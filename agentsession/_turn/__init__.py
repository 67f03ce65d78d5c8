"""The turn as a pure state machine, its effects, and the prompt that the model receives."""
