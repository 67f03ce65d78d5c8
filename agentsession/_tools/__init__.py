"""ACT: what a tool is, how its parameters are read from a function, and what becomes of its result."""
