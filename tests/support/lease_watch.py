"""What the tests of the heartbeat look at: the end of a lease, and when it moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from agentsession import _clock

SHORT = {"lease": 0.3}
"""Its beats come ten times a second; where the clock stands still, it never runs out by itself."""


def eventually(happened: Callable[[], Any], limit: float = 60.0) -> Any:
    """What it gives, once that is true."""
    deadline = time.monotonic() + limit
    while not (found := happened()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
    return found


def until_of(Chat: Any, key: Any) -> float:
    return float(Chat.get_context(key).turn.until)


def grown(Chat: Any, key: Any, last: float) -> float | None:
    """The end of the lease, if it is a later one."""
    until = until_of(Chat, key)
    return until if until > last else None


def extended(Chat: Any, key: Any, at: _clock.FakeClock) -> float:
    """Wait for a beat at this time: the end of the lease that it gave."""
    until = at.seconds + SHORT["lease"]
    eventually(lambda: until_of(Chat, key) == pytest.approx(until, abs=0.001))
    return until
