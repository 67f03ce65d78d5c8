"""The drivers, which step the machine of a turn and perform its effects."""
