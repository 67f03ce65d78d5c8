"""For your own tests: scripted replies, a clock that stands still, crashes after any step, transactions that
roll back.

No model is called and nothing is patched. A `with` block changes its own thread (or task) only, and the
change ends with the block. `agentsession.testing.plugin` has pytest fixtures for the same.
"""

from agentsession.testing.blocks import FakeClock, clock, dsl_errors, inside_transaction
from agentsession.testing.crashes import Crash, CrashPoint, crash_after, every_crash
from agentsession.testing.scripted import script, tool_call

__all__ = [
    "Crash",
    "CrashPoint",
    "FakeClock",
    "clock",
    "crash_after",
    "dsl_errors",
    "every_crash",
    "inside_transaction",
    "script",
    "tool_call",
]
