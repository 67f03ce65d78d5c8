"""REMEMBER: the only rooms that speak SQL. A store loads, claims and writes one session at a time."""
