"""The user's record: its key, its managed attributes, and the save that leaves those alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Any
from uuid import UUID

import peewee

from agentsession import info
from agentsession.errors import InputInvalid, ManagedField
from agentsession.json_values import JsonMap
from agentsession.options import SessionOptions


def primary_key_of(model: type[peewee.Model], session: Any) -> Any:
    """The id of a session given as an id or a record; raises `InputInvalid` for another model's record."""
    is_record = isinstance(session, peewee.Model)
    if not is_record and not _may_be_a_key(model, session):
        raise InputInvalid(
            f"a {type(session).__name__} is no id",
            where=info.place(model),
            why="a session is found by the value of its primary key",
            fix=f"pass a {model.__name__} record or its id",
        )
    if not is_record:
        return session
    if not isinstance(session, model) or _table(type(session)) != _table(model):
        raise InputInvalid(
            f"a {type(session).__name__} is no session of {model.__name__}",
            where=info.place(model),
            why="ids of two tables must not be mixed up",
            fix=f"pass a {model.__name__} record or its id",
        )
    key: Any = session
    return key._pk


def _may_be_a_key(model: type[peewee.Model], value: Any) -> bool:
    """Can a database be asked for this value? One that the field cannot convert is an unknown id."""
    if isinstance(value, (bool, float, bytes, list, tuple, dict, set, peewee.Node)):
        return False
    meta: Any = model._meta
    try:
        converted = meta.primary_key.db_value(value)
    except (ValueError, TypeError, AttributeError):
        return True
    return converted is None or isinstance(converted, (str, int, float, bytes, UUID, Decimal, date))


def _table(model: type[peewee.Model]) -> tuple[Any, ...]:
    meta: Any = model._meta
    return meta.database, meta.schema, meta.table_name


def new_record(model: type[peewee.Model], options: SessionOptions, attributes: Mapping[str, Any]) -> Any:
    """A record with the user's own columns; raises `InputInvalid` for a name that is none of them."""
    meta: Any = model._meta
    known = [*meta.fields, *(field.object_id_name for field in meta.refs)]
    if not isinstance(attributes, Mapping):
        raise InputInvalid(
            f"attributes is a {type(attributes).__name__}",
            where=f"{info.place(model)} attributes",
            why="it maps the row's other columns to their values",
            fix='pass attributes={"title": "…"}',
        )
    for name in attributes:
        if name in options.managed:
            raise InputInvalid(
                f"the attribute {name!r} belongs to the library",
                where=f"{info.place(model)} attributes",
                why="it holds what the turn stores",
                fix="leave it out of attributes=",
            )
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            raise InputInvalid(
                f"the model has no attribute {name!r}",
                where=f"{info.place(model)} attributes",
                why="Peewee would drop it in silence",
                fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(sorted(known))}",
            )
    record: Any = model(**attributes)
    if record._pk is None and not record._meta.auto_increment:
        name = record._meta.primary_key.name
        raise InputInvalid(
            f"the primary key {name!r} has no value",
            where=f"{info.place(model)} attributes",
            why="the session could not be found again",
            fix=f"declare {name} with default=uuid.uuid4, or the like, or pass attributes={{{name!r}: …}}",
        )
    return record


def refresh(
    record: Any, options: SessionOptions, map_: JsonMap, status: str, updated: datetime | None
) -> None:
    """Set the managed attributes to what is stored, without marking them as assigned by the user."""
    record.__data__[options.context_attribute] = map_
    if options.status_attribute:
        record.__data__[options.status_attribute] = status
    if options.updated_attribute and updated is not None:
        record.__data__[options.updated_attribute] = updated
    record._dirty.difference_update(options.managed)


def unmanaged_fields(record: Any, options: SessionOptions, only: Iterable[Any] | None) -> list[Any]:
    """The fields that `save` may write; raises `ManagedField` if a managed one was assigned or named."""
    meta = record._meta
    named = None if only is None else [meta.combined[f] if isinstance(f, str) else f for f in only]
    for name in options.managed:
        if named is not None and any(field.name == name for field in named):
            raise _managed(record, name, "was named in only=")
        if named is None and name in record._dirty and not _is_untouched_default(record, name):
            raise _managed(record, name, "was assigned")
    if named is not None:
        return named
    fields = meta.sorted_fields
    if meta.only_save_dirty:
        fields = record.dirty_fields
    return [field for field in fields if field.name not in options.managed]


def _is_untouched_default(record: Any, name: str) -> bool:
    """`Model(id=…)` marks every default as assigned; its primary key then is, too."""
    meta = record._meta
    if meta.primary_key.name not in record._dirty:
        return False
    default = meta.fields[name].default
    fresh = default() if callable(default) else default
    return record.__data__.get(name) == fresh or isinstance(fresh, datetime)


def _managed(record: Any, name: str, how: str) -> ManagedField:
    model = type(record)
    return ManagedField(
        f"{name!r} {how}, and belongs to the library",
        where=info.place(model),
        why="saving a copy could put it over a newer turn; nothing was written",
        fix=f"change it on purpose with {model.__name__}.update({name}=…).where(…).execute()",
    )
