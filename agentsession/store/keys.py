"""A new session's place for its idempotency key: a value that the same key always gives."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import peewee

from agentsession import info
from agentsession.errors import InputInvalid
from agentsession.json_values import compact
from agentsession.options import SessionOptions

NAMESPACE = UUID("6f0c7a52-9f0e-5d43-9d0c-1b8a3a4f6b1e")
UUID_LENGTH = 36


def key_field_of(model: type[peewee.Model], options: SessionOptions) -> Any:
    """The idempotency attribute, or a primary key that can hold a UUID; raises `InputInvalid`."""
    meta: Any = model._meta
    if options.idempotency_attribute is not None:
        return meta.fields[options.idempotency_attribute]
    if holds_a_uuid(meta.primary_key):
        return meta.primary_key
    raise InputInvalid(
        f"idempotency_key was given, but the primary key is a {type(meta.primary_key).__name__}",
        where=f"{info.place(model)} idempotency_key",
        why="two calls with the same key that start at once could not be told apart; nothing was stored",
        fix='declare @agent_session(idempotency_attribute="start_key") with '
        "start_key = peewee.CharField(max_length=36, null=True, unique=True), or a UUID primary key",
    )


def holds_a_uuid(field: Any) -> bool:
    """A UUID field, or a text field that is long enough."""
    if isinstance(field, peewee.CharField):
        return bool((field.max_length or 0) >= UUID_LENGTH)
    return isinstance(field, (peewee.UUIDField, peewee.BinaryUUIDField, peewee.TextField))


def key_of_call(session: Any, call: str) -> str:
    """A UUID for a call of a tool, the same whenever it is run again, and no other call's in any table."""
    meta = session.model._meta
    return str(uuid5(NAMESPACE, compact([meta.schema, meta.table_name, "call", str(session.key), call])))


def derived_value(
    model: type[peewee.Model], options: SessionOptions, field: Any, owner: Any, key: str
) -> Any:
    """The same for the same table, owner and key, and never the same for another (RFC 9562, version 5)."""
    meta: Any = model._meta
    name = options.owner_attribute
    whose = None if name is None else str(meta.fields[name].db_value(owner))
    value = uuid5(NAMESPACE, compact([meta.schema, meta.table_name, whose, key]))
    is_uuid = isinstance(field, (peewee.UUIDField, peewee.BinaryUUIDField))
    return value if is_uuid else str(value)
