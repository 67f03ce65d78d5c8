"""The values that identify a session: its primary key, its owner, and the value of an idempotency key.

A value that a column cannot hold is refused before a database is asked, because databases disagree on other
values: MariaDB reads "1abc" as the number 1, SQLite finds 1 by "1.0", and PostgreSQL reports an error for
both.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID, uuid5

import peewee

from agentsession import info
from agentsession._json_values import compact, unstorable
from agentsession._store.declared import Declared
from agentsession._store.dialects.base import MAX_INTEGER, target_of
from agentsession.errors import InputInvalid

NAMESPACE = UUID("6f0c7a52-9f0e-5d43-9d0c-1b8a3a4f6b1e")
UUID_LENGTH = 36

PLAIN = (str, int, UUID, Decimal, date, Enum)

LIBRARIES = ("peewee", "playhouse")
"""The packages whose fields convert values as their columns expect it."""

DIGITS = re.compile(r"-?[0-9]{1,40}")


def primary_key_of(model: type[peewee.Model], session: Any) -> Any:
    """Return the id of a session given as an id or a record. Raises `InputInvalid` for a record of another
    model."""
    is_record = isinstance(session, peewee.Model)
    if not is_record and not is_scalar(session):
        raise InputInvalid(
            f"a {type(session).__name__} is not an id",
            where=info.qualified_name(model),
            why="a session is found by the value of its primary key",
            fix=f"pass a {model.__name__} record or its id",
        )
    if not is_record:
        return session
    if not isinstance(session, model) or _table(type(session)) != _table(model):
        raise InputInvalid(
            f"a {type(session).__name__} is not a session of {model.__name__}",
            where=info.qualified_name(model),
            why="the id of a row in one table must not be looked up in another",
            fix=f"pass a {model.__name__} record or its id",
        )
    key: Any = session
    return key._pk


def _table(model: type[peewee.Model]) -> tuple[Any, ...]:
    meta: Any = model._meta
    return meta.database, meta.schema, meta.table_name


def owner_of(declared: Declared, actor: Any) -> Any:
    """Return the value of the owner attribute for this actor; None if the model has no owner.

    Raises `InputInvalid` if the actor is missing, or cannot be an owner.
    """
    field = declared.owner_field
    if field is None:
        if actor is None:
            return None
        found = "the model has no owner_attribute"
        raise _invalid_actor(declared, found, 'declare @agent_session(owner_attribute="user")')
    name = declared.options.owner_attribute
    value = _owner_value(field, actor)
    if value is None or value == "":
        fix = f"pass actor=…, a value of {name!r}, to every action"
        raise _invalid_actor(declared, "no actor was passed", fix)
    try:
        return comparable_value(field, value if is_scalar(value) else None)
    except ValueError:
        found = f"a {type(actor).__name__} is not a value of {name!r}"
        fix = f"pass actor=… with a value of {name!r}, or a record"
        raise _invalid_actor(declared, found, fix) from None


def _owner_value(field: Any, actor: Any) -> Any:
    """Return the key of an actor that is a record of the right table, and any other actor as it is."""
    record: Any = actor
    if not isinstance(actor, peewee.Model):
        return actor
    if not isinstance(field, peewee.ForeignKeyField):
        return record._pk
    return record.__data__.get(field.rel_field.name) if isinstance(record, field.rel_model) else record


def _invalid_actor(declared: Declared, found: str, fix: str) -> InputInvalid:
    why = "the actor decides which sessions can be seen; nothing was read or stored"
    return InputInvalid(found, where=f"{declared.name} actor", why=why, fix=fix)


def key_field_of(declared: Declared) -> Any:
    """Return the field that stores the value of an idempotency key.

    It is the idempotency attribute, or a primary key that can hold a UUID. Raises `InputInvalid` if the model
    has neither.
    """
    meta: Any = declared.model._meta
    if declared.options.idempotency_attribute is not None:
        return meta.fields[declared.options.idempotency_attribute]
    if holds_a_uuid(meta.primary_key):
        return meta.primary_key
    raise InputInvalid(
        f"idempotency_key was passed, but the primary key is a {type(meta.primary_key).__name__}",
        where=f"{declared.name} idempotency_key",
        why="two calls with the same key that start at once would store two sessions; nothing was stored",
        fix='declare @agent_session(idempotency_attribute="start_key") with '
        "start_key = peewee.CharField(max_length=36, null=True, unique=True), or a UUID primary key",
    )


def holds_a_uuid(field: Any) -> bool:
    """Return whether it is a UUID field, or a text field that is long enough for a UUID."""
    if isinstance(field, peewee.CharField):
        return bool((field.max_length or 0) >= UUID_LENGTH)
    return isinstance(field, (peewee.UUIDField, peewee.BinaryUUIDField, peewee.TextField))


def key_value(declared: Declared, field: Any, owner: Any, key: str) -> Any:
    """Return the UUID that is derived from table, owner and idempotency key (RFC 9562, version 5).

    It is stored in the primary key or a unique column, so the database decides which of two calls was first.
    """
    meta: Any = declared.model._meta
    owner_field = declared.owner_field
    whose = None if owner_field is None else str(owner_field.db_value(owner))
    value = uuid5(NAMESPACE, compact([meta.schema, meta.table_name, whose, key]))
    is_uuid = isinstance(field, (peewee.UUIDField, peewee.BinaryUUIDField))
    return value if is_uuid else str(value)


def key_of_call(session: Any, call: str) -> str:
    """Return the idempotency key that a tool may pass on: a UUID derived from table, session and call.

    It is the same whenever the call runs again. The key of the call itself is unique in its session only.
    """
    meta = session.model._meta
    return str(uuid5(NAMESPACE, compact([meta.schema, meta.table_name, "call", str(session.key), call])))


def is_scalar(value: Any) -> bool:
    """Return whether the value of one column could be equal to it, and identify a row or a person."""
    return not isinstance(value, (bool, float, bytes, list, tuple, dict, set, peewee.Node))


def overridden(field: Any, *methods: str) -> str | None:
    """Return the first of these methods that a class outside Peewee defines for the field, or None."""
    own = [kind for kind in type(field).__mro__ if kind.__module__.partition(".")[0] not in LIBRARIES]
    return next((name for name in methods if any(name in vars(kind) for kind in own)), None)


def comparable_value(field: Any, value: Any) -> Any:
    """Return the value to compare with the field. Raises `ValueError` for a value that no row can have."""
    if isinstance(field, peewee.ForeignKeyField):
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
