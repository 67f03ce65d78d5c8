"""A new session's place for its idempotency key: a value that the same key always gives."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import peewee

from agentsession import info
from agentsession._json_values import compact
from agentsession._options import SessionOptions
from agentsession._store.values import is_scalar, settled_value
from agentsession.errors import InputInvalid

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


def owner_of(model: type[peewee.Model], options: SessionOptions, actor: Any) -> Any:
    """The value of the owner attribute for this actor; None where the model has no owner.

    Raises `InputInvalid` where the program forgot the actor, or passed one that cannot own anything.
    """
    name = options.owner_attribute
    if name is None:
        if actor is None:
            return None
        raise _invalid(
            model, "the model has no owner_attribute", 'declare @agent_session(owner_attribute="user")'
        )
    field: Any = model._meta.fields[name]
    value = _value(field, actor)
    if value is None or value == "":
        raise _invalid(model, "no actor was given", f"pass actor=…, a value of {name!r}, to every action")
    try:
        return settled_value(field, value if is_scalar(value) else None)
    except ValueError:
        found = f"a {type(actor).__name__} is no value of {name!r}"
        fix = f"pass actor=… with a value of {name!r}, or a record"
        raise _invalid(model, found, fix) from None


def _value(field: Any, actor: Any) -> Any:
    """A record stands for its key, where it is of the right table."""
    record: Any = actor
    if not isinstance(actor, peewee.Model):
        return actor
    if not isinstance(field, peewee.ForeignKeyField):
        return record._pk
    return record.__data__.get(field.rel_field.name) if isinstance(record, field.rel_model) else record


def _invalid(model: type[peewee.Model], found: str, fix: str) -> InputInvalid:
    why = "the actor decides which sessions can be seen; nothing was read or stored"
    return InputInvalid(found, where=f"{info.place(model)} actor", why=why, fix=fix)
