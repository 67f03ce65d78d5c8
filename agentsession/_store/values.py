"""Whether a value can stand in a column, asked before a database is: they disagree on what they are given.

MariaDB reads "1abc" as the number 1, SQLite finds 1 by "1.0", PostgreSQL calls either an error.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import peewee

from agentsession._json_values import unstorable

PLAIN = (str, int, UUID, Decimal, date, Enum)

LARGE = 2**63

LIBRARIES = ("peewee", "playhouse")
"""The packages whose fields convert values as their columns expect it."""

WHOLE = re.compile(r"-?[0-9]{1,40}")


def is_scalar(value: Any) -> bool:
    """Is it a value that one column could identify a row or a person by?"""
    return not isinstance(value, (bool, float, bytes, list, tuple, dict, set, peewee.Node))


def target_of(field: Any) -> Any:
    """The field that a foreign key leads to in the end."""
    while isinstance(field, peewee.ForeignKeyField):
        field = field.rel_field
    return field


def overridden(field: Any, *methods: str) -> str | None:
    """Return the first of these methods that a class outside Peewee defines for the field, or None."""
    own = [kind for kind in type(field).__mro__ if kind.__module__.partition(".")[0] not in LIBRARIES]
    return next((name for name in methods if any(name in vars(kind) for kind in own)), None)


def settled_value(field: Any, given: Any) -> Any:
    """The value that is to be compared with the field; `ValueError` for one that no row can have."""
    field = target_of(field)
    if not isinstance(given, PLAIN) and overridden(field, "db_value", "adapt") is None:
        raise ValueError("only a field of the user's own could make a value of it")
    if isinstance(field, (peewee.UUIDField, peewee.BinaryUUIDField)):
        return given if isinstance(given, UUID) else UUID(given if isinstance(given, str) else "")
    try:
        value = field.db_value(given)
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(value, (str, int, float, bytes, UUID, Decimal, date)):
        raise ValueError(f"a {type(value).__name__} is no value of a column")  # noqa: TRY004
    if isinstance(field, peewee.IntegerField):
        return _integer(value)
    if isinstance(value, str) and any(unstorable(value)):
        raise ValueError("no database stores it as text")
    return given


def column_value(field: Any, given: Any) -> Any:
    """The same, as the driver takes it; `ValueError` also for a number that is larger than any column's."""
    value = field.db_value(settled_value(field, given))
    if isinstance(value, int) and not -LARGE <= value < LARGE:
        raise ValueError("no column holds so large a number")
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not WHOLE.fullmatch(str(value)):
        raise ValueError("it is no whole number")
    return int(value)
