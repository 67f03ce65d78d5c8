"""What the dialects share: parameters that no field converts, and paths into a JSON value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from peewee import Value

T = TypeVar("T")

Path: TypeAlias = tuple[str | int, ...]

MOST_ARGUMENTS = 80
"""SQLite and PostgreSQL refuse a call of a function with more than 100 arguments."""


def plain(value: Any) -> Value:
    """A parameter that no field converts."""
    return Value(value, converter=False)


def pointer(path: Path) -> str:
    """`$.messages[0].metadata`, as SQLite and MySQL write it."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def in_groups(arguments: Sequence[T]) -> Iterator[Sequence[T]]:
    """The arguments, in groups that one function takes. Pairs stay together."""
    for first in range(0, len(arguments), MOST_ARGUMENTS):
        yield arguments[first : first + MOST_ARGUMENTS]
