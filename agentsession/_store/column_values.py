"""Which values a column can hold, decided before a database is asked.

Databases disagree on other values: MariaDB reads "1abc" as the number 1, SQLite finds 1 by "1.0", and
PostgreSQL reports an error for both.
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

MAX_INTEGER = 2**63

LIBRARIES = ("peewee", "playhouse")
"""The packages whose fields convert values as their columns expect it."""

DIGITS = re.compile(r"-?[0-9]{1,40}")


def is_scalar(value: Any) -> bool:
    """Return whether the value of one column could be equal to it, and identify a row or a person."""
    return not isinstance(value, (bool, float, bytes, list, tuple, dict, set, peewee.Node))


def target_of(field: Any) -> Any:
    """Return the field that a foreign key finally refers to, and any other field as it is."""
    while isinstance(field, peewee.ForeignKeyField):
        field = field.rel_field
    return field


def overridden(field: Any, *methods: str) -> str | None:
    """Return the first of these methods that a class outside Peewee defines for the field, or None."""
    own = [kind for kind in type(field).__mro__ if kind.__module__.partition(".")[0] not in LIBRARIES]
    return next((name for name in methods if any(name in vars(kind) for kind in own)), None)


def comparable_value(field: Any, value: Any) -> Any:
    """Return the value to compare with the field. Raises `ValueError` for a value that no row can have."""
    field = target_of(field)
    if not isinstance(value, PLAIN) and overridden(field, "db_value", "adapt") is None:
        raise ValueError("only a custom field could convert it")
    if isinstance(field, (peewee.UUIDField, peewee.BinaryUUIDField)):
        return value if isinstance(value, UUID) else UUID(value if isinstance(value, str) else "")
    try:
        converted = field.db_value(value)
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(converted, (str, int, float, bytes, UUID, Decimal, date)):
        raise ValueError(f"a column cannot hold a {type(converted).__name__}")  # noqa: TRY004
    if isinstance(field, peewee.IntegerField):
        return _integer(converted)
    if isinstance(converted, str) and any(unstorable(converted)):
        raise ValueError("no database stores it as text")
    return value


def column_value(field: Any, value: Any) -> Any:
    """Return the value to compare with the field, as the driver takes it.

    Raises `ValueError` also for a number that is larger than any column's.
    """
    converted = field.db_value(comparable_value(field, value))
    if isinstance(converted, int) and not -MAX_INTEGER <= converted < MAX_INTEGER:
        raise ValueError("no column holds so large a number")
    return converted


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not DIGITS.fullmatch(str(value)):
        raise ValueError("it is not an integer")
    return int(value)
