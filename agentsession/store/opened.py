"""The session that an action works on: one that is stored, or a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peewee

from agentsession.options import SessionOptions
from agentsession.store.document import DocumentSession
from agentsession.store.keys import derived_value, key_field_of
from agentsession.store.new_document import NewDocumentSession
from agentsession.store.owner import owner_of
from agentsession.store.record import new_record


def open_session(
    model: type[peewee.Model], options: SessionOptions, session: Any, actor: Any
) -> DocumentSession:
    """A stored session of this actor, by id or record; nothing is read yet."""
    return DocumentSession(model, options, session, owner_of(model, options, actor))


def new_session(
    model: type[peewee.Model],
    options: SessionOptions,
    attributes: Mapping[str, Any] | None,
    actor: Any,
    key: str | None,
) -> NewDocumentSession:
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
    return NewDocumentSession(model, options, record, owner, key_field)
