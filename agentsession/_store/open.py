"""The session that an action works on: one that is stored, or a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peewee

from agentsession._options import SessionOptions
from agentsession._store.identity import derived_value, key_field_of, owner_of
from agentsession._store.layout import ALL, Wanted
from agentsession._store.new_session import NewSession
from agentsession._store.record import new_record
from agentsession._store.session_store import StoredSession


def open_session(
    model: type[peewee.Model],
    options: SessionOptions,
    session: Any,
    actor: Any,
    wanted: Wanted = ALL,
) -> StoredSession:
    """A stored session of this actor, by id or record; nothing is read yet."""
    return StoredSession(model, options, session, owner_of(model, options, actor), wanted)


def wanted_for_a_turn(options: SessionOptions, turn: str | None = None) -> Wanted:
    """What the model is shown, and the turn with this id."""
    history = options.history if isinstance(options.history, int) else None
    return Wanted(history=history, turn=turn, system=options.pin_instruction)


def new_session(
    model: type[peewee.Model],
    options: SessionOptions,
    attributes: Mapping[str, Any] | None,
    actor: Any,
    key: str | None,
) -> NewSession:
    """A session that is not stored yet; raises `InputInvalid` for attributes that do not fit."""
    derived: dict[str, Any] = {}
    owner = owner_of(model, options, actor)
    if options.owner_attribute is not None:
        derived[options.owner_attribute] = owner
    key_field: Any = None
    if key is not None:
        key_field = key_field_of(model, options)
        derived[key_field.name] = derived_value(model, options, key_field, owner, key)
    record = new_record(model, options, attributes, derived)
    return NewSession(model, options, record, owner, key_field)
