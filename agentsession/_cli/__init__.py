"""The command line: `python -m agentsession demo`."""
