"""The SQLite dialect: reading inside a JSON column, and changing it in one expression.

Written in SQL functions because Peewee's JSON mutators cannot be chained and store nothing where an array
is missing. Needs SQLite 3.38 or later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from peewee import Cast, Expression, Field, Function, Value, fn

Path: TypeAlias = tuple[str | int, ...]


def now() -> Expression:
    """The database's clock in seconds since 1970, to the millisecond."""
    julian = fn.julianday(plain("now"))
    return (julian - plain(2440587.5)) * plain(86400.0)


def number(column: Field, *path: str) -> Cast:
    """An integer inside the JSON, NULL where it is absent."""
    return Cast(text(column, *path), "INTEGER")


def text(column: Field, *path: str) -> Function:
    """A text inside the JSON, NULL where it is absent."""
    return fn.json_extract(column, plain(_pointer(path)))


def raw(column: Field) -> Cast:
    """The JSON as it is stored, past the field's own conversion."""
    return Cast(column, "TEXT")


def patch(column: Field, sets: Mapping[Path, Function], appends: Iterable[str]) -> Function:
    """The JSON with paths set and messages appended, one revision on.

    The edits of one json_set must not depend on each other: SQLite 3.40 silently drops one inside a value
    that was set or appended by an earlier one. So paths come before appends, and no path contains another.
    """
    arguments: list[Any] = []
    for path, value in sets.items():
        arguments += [plain(_pointer(path)), value]
    for message in appends:
        arguments += [plain("$.messages[#]"), document(message)]
    arguments += [plain("$.revision"), number(column, "revision") + plain(1)]
    return fn.json_set(column, *arguments)


def lasting(json_text: str, seconds: float) -> Function:
    """A turn as a JSON value, its lease extended from the database's clock."""
    return fn.json_set(document(json_text), plain("$.until"), now() + plain(seconds))


def document(json_text: str) -> Function:
    """JSON text as a JSON value."""
    return fn.json(plain(json_text))


def plain(value: Any) -> Value:
    """A parameter that no field converts."""
    return Value(value, converter=False)


def _pointer(path: Path) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
