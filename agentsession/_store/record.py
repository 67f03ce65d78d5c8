"""The user's record: its key, its managed attributes, and the save that leaves those alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import peewee

from agentsession import info
from agentsession._json_values import JsonMap
from agentsession._options import SessionOptions
from agentsession._store.in_place import forget, is_changed_in_place
from agentsession._store.values import is_scalar
from agentsession._turn_state import Turn
from agentsession.errors import InputInvalid, ManagedField

CLAIM = "_agentsession_claim"


def primary_key_of(model: type[peewee.Model], session: Any) -> Any:
    """The id of a session given as an id or a record; raises `InputInvalid` for another model's record."""
    is_record = isinstance(session, peewee.Model)
    if not is_record and not is_scalar(session):
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


def _table(model: type[peewee.Model]) -> tuple[Any, ...]:
    meta: Any = model._meta
    return meta.database, meta.schema, meta.table_name


def new_record(
    model: type[peewee.Model],
    options: SessionOptions,
    attributes: Mapping[str, Any] | None,
    derived: Mapping[str, Any],
) -> Any:
    """A record with the user's own columns and the derived ones; raises `InputInvalid` for other names."""
    attributes = {} if attributes is None else attributes
    _refuse_attributes(model, options, attributes, derived)
    record: Any = model(**attributes, **derived)
    if record._pk is None and not record._meta.auto_increment:
        name = record._meta.primary_key.name
        raise InputInvalid(
            f"the primary key {name!r} has no value",
            where=f"{info.place(model)} attributes",
            why="the session could not be found again",
            fix=f"declare {name} with default=uuid.uuid4, or the like, or pass attributes={{{name!r}: …}}",
        )
    return record


def _refuse_attributes(
    model: type[peewee.Model], options: SessionOptions, attributes: Any, derived: Mapping[str, Any]
) -> None:
    meta: Any = model._meta
    where = f"{info.place(model)} attributes"
    known = [*meta.fields, *(field.object_id_name for field in meta.refs)]
    if not isinstance(attributes, Mapping):
        found, why = (
            f"attributes is a {type(attributes).__name__}",
            "it maps the row's other columns to values",
        )
        raise InputInvalid(found, where=where, why=why, fix='pass attributes={"title": "…"}')
    for name in attributes:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            raise InputInvalid(
                f"the model has no attribute {name!r}",
                where=where,
                why="Peewee would drop it in silence",
                fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(sorted(known))}",
            )
        instead = _given_by_other_means(options, meta.combined[name].name, derived)
        if instead is not None:
            found, why = f"the attribute {name!r} belongs to the library", "it holds what the turn stores"
            raise InputInvalid(found, where=where, why=why, fix=instead)


def _given_by_other_means(options: SessionOptions, name: str, derived: Mapping[str, Any]) -> str | None:
    """What to do instead of passing this attribute; None for one of the user's own."""
    if name in options.managed:
        return "leave it out of attributes="
    if name == options.owner_attribute:
        return "pass actor=, which is stored in it"
    if name == options.idempotency_attribute:
        return "pass idempotency_key=, from which it is derived"
    return "leave it out: the idempotency key decides it" if name in derived else None


def record_of(model: type[peewee.Model], values: Mapping[str, Any]) -> Any:
    """A record as a query gives it."""
    record: Any = model(__no_default__=1)
    record.__data__.update(values)
    return record


def refresh(
    record: Any, options: SessionOptions, map_: JsonMap, status: str | None, updated: datetime | None
) -> None:
    """Set the managed attributes to what is stored, without marking them as assigned by the user."""
    record.__data__[options.context_attribute] = map_
    forget(record)
    record.__dict__[CLAIM] = (map_.get("turn") or {}).get("claim")
    if options.status_attribute:
        record.__data__[options.status_attribute] = status
    if options.updated_attribute and updated is not None:
        record.__data__[options.updated_attribute] = updated
    record._dirty.difference_update(options.managed)


def is_running_here(record: Any, turn: Turn) -> bool:
    """Whether an action of this process runs the turn. The heartbeat extends the lease in the row alone."""
    return turn.claim is not None and record.__dict__.get(CLAIM) == turn.claim


def unmanaged_fields(record: Any, options: SessionOptions, only: Iterable[Any] | None) -> list[Any]:
    """The fields that `save` may write; raises `ManagedField` if a managed one was assigned, named, or
    changed in place."""
    meta = record._meta
    named = None if only is None else [meta.combined[f] if isinstance(f, str) else f for f in only]
    for name in options.managed:
        if named is not None and any(field.name == name for field in named):
            raise _managed(record, name, "was named in only=")
        if named is None and name in record._dirty and not _is_untouched_default(record, name):
            raise _managed(record, name, "was assigned")
    if named is not None:
        return named
    if is_changed_in_place(record, options.context_attribute):
        raise _managed(record, options.context_attribute, "was changed in place")
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
