"""Whose session it is: the actor of an action, as the owner attribute stores it."""

from __future__ import annotations

from typing import Any

import peewee

from agentsession import info
from agentsession.errors import InputInvalid
from agentsession.options import SessionOptions
from agentsession.store.values import is_scalar, settled_value


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
