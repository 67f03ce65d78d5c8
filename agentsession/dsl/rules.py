"""What the value of an option has to be, as tables: one line for each option."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

SECONDS, COUNT = "a positive number of seconds", "a whole number from 1"


class Rule(NamedTuple):
    """An option, what fits it and what that is called, why it matters, and a value that fits."""

    option: str
    fits: Callable[[Any], bool]
    wanted: str
    why: str
    example: str

    def broken(self, given: object) -> Iterator[str]:
        """What is wrong with the option of this object, if anything."""
        value = getattr(given, self.option)
        if not self.fits(value):
            yield f"is {value!r}, not {self.wanted}"

    @property
    def fix(self) -> str:
        return f"{self.option}={self.example}"


def is_positive(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value <= sys.float_info.max


def is_whole(value: Any) -> bool:
    """A whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_count(value: Any) -> bool:
    """A whole number from 1."""
    return is_whole(value) and value > 0


def or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)
