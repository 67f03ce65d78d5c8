"""PERFORM: drivers run a turn machine and perform its effects."""
