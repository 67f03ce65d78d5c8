"""What the value of an option has to be, as tables: one line for each option."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from inspect import Parameter, Signature, signature
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


def other_parameters(function: Callable[..., Any], count: int) -> str | None:
    """What a function takes that cannot be called with so many values by position: `(first, *, second)`.
    None where it can, or where Python knows no signature."""
    try:
        found = signature(function)
    except (ValueError, TypeError):
        return None
    try:
        found.bind(*[None] * count)
    except TypeError:
        return _shown(found)
    return None


def _shown(found: Signature) -> str:
    """The names alone: a default may be a secret."""
    bare = [
        each.replace(annotation=Parameter.empty, default=Parameter.empty)
        for each in found.parameters.values()
    ]
    return str(Signature(bare))
