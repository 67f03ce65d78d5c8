"""DECLARE: decorators, verifiers and injection: all that happens at import time."""
