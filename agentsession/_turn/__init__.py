"""DECIDE: the turn as a pure machine, its effects as values, and the model's view of the history."""
