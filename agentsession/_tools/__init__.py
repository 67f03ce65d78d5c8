"""ACT: the tools: what one is, its parameters and how they are read from a function, and its result."""
