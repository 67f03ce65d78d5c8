"""Turns after a given number of stored messages, though every turn stores two more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

from tests.benchmarks.timing import Keeper, Side

GROWTH = 10
"""A session may grow by a tenth of its length before another one takes its place."""


def turns_after(side: Side, length: int, turns: int) -> Callable[[], None]:
    """Each call is one turn of a session with so many messages; 0 is a session's first turn."""
    return side.start if length == 0 else later_turns(side, length, turns)


def later_turns(side: Keeper, length: int, turns: int) -> Callable[[], None]:
    """Enough sessions are stored for this number of calls."""
    each = max(1, length // (2 * GROWTH))
    keys: Iterator[object] = cycle([side.seeded(length) for _ in range(-(-turns // each))])
    return lambda: side.turn(next(keys))
