"""What the dialects share: parameters that no field converts, and paths into a JSON value."""

from __future__ import annotations

from typing import Any, TypeAlias

from peewee import Value

Path: TypeAlias = tuple[str | int, ...]


def plain(value: Any) -> Value:
    """A parameter that no field converts."""
    return Value(value, converter=False)


def pointer(path: Path) -> str:
    """`$.messages[0].metadata`, as SQLite and MySQL write it."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
