"""The user's record: new ones, and what its `save` may write.

A change inside the context is found from a digest, which is taken when the attribute is first read and
compared by `save()`: Peewee cannot see such a change, and a record whose context nobody reads costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import msgspec
import peewee

from agentsession import info
from agentsession._options import SessionOptions
from agentsession._store.declared import Declared
from agentsession._turn_state import Turn
from agentsession.errors import InputInvalid, ManagedField

CLAIM = "_agentsession_claim"

SEEN = "_agentsession_seen"


def new_record(
    declared: Declared, attributes: Mapping[str, Any] | None, derived: Mapping[str, Any]
) -> peewee.Model:
    """Return a record with the caller's attributes and the derived ones. Raises `InputInvalid` for attributes
    that a caller cannot set."""
    attributes = {} if attributes is None else attributes
    _refuse_attributes(declared, attributes, derived)
    record: Any = declared.model(**attributes, **derived)
    if record._pk is None and not record._meta.auto_increment:
        name = record._meta.primary_key.name
        raise InputInvalid(
            f"the primary key {name!r} has no value",
            where=f"{declared.name} attributes",
            why="the session could not be found again",
            fix=f"declare {name} with default=uuid.uuid4, or the like, or pass attributes={{{name!r}: …}}",
        )
    return record  # type: ignore[no-any-return]


def _refuse_attributes(declared: Declared, attributes: Any, derived: Mapping[str, Any]) -> None:
    meta: Any = declared.model._meta
    where = f"{declared.name} attributes"
    known = [*meta.fields, *(field.object_id_name for field in meta.refs)]
    if not isinstance(attributes, Mapping):
        found = f"attributes is a {type(attributes).__name__}"
        why = "it maps the row's other columns to values"
        raise InputInvalid(found, where=where, why=why, fix='pass attributes={"title": "…"}')
    for name in attributes:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            raise InputInvalid(
                f"the model has no attribute {name!r}",
                where=where,
                why="Peewee would drop it silently",
                fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(sorted(known))}",
            )
        fix = _way_to_set(declared.options, meta.combined[name].name, derived)
        if fix is not None:
            found, why = f"the attribute {name!r} belongs to the library", "it holds what the turn stores"
            raise InputInvalid(found, where=where, why=why, fix=fix)


def _way_to_set(options: SessionOptions, name: str, derived: Mapping[str, Any]) -> str | None:
    """Return how an attribute of the library is set; None for any other attribute."""
    if name in options.managed:
        return "leave it out of attributes="
    if name == options.owner_attribute:
        return "pass actor=, which is stored in it"
    if name == options.idempotency_attribute:
        return "pass idempotency_key=, from which it is derived"
    return "leave it out: the idempotency key decides it" if name in derived else None


def is_running_here(record: Any, turn: Turn) -> bool:
    """Return whether an action of this process runs the turn. The heartbeat extends the lease only in the
    row."""
    return turn.claim is not None and record.__dict__.get(CLAIM) == turn.claim


def unmanaged_fields(record: Any, options: SessionOptions, only: Iterable[Any] | None) -> list[Any]:
    """Return the fields that `save` may write. Raises `ManagedField` if a managed one was assigned, named, or
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
    if _is_changed_in_place(record, options.context_attribute):
        raise _managed(record, options.context_attribute, "was changed in place")
    fields = meta.sorted_fields
    if meta.only_save_dirty:
        fields = record.dirty_fields
    return [field for field in fields if field.name not in options.managed]


def _is_untouched_default(record: Any, name: str) -> bool:
    """Return whether `Model(id=…)` has marked the attribute as assigned, as it does with every default.

    The primary key is marked then, too.
    """
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
        where=info.qualified_name(model),
        why="saving a copy could overwrite a newer turn; nothing was written",
        fix=f"change it on purpose with {model.__name__}.update({name}=…).where(…).execute()",
    )


def watch(model: type[peewee.Model], name: str) -> None:
    """Note what an attribute holds when it is first read, on the records of the model and its subclasses.

    Subclasses copy the field with its accessor.
    """
    meta: Any = model._meta
    field = meta.fields[name]
    if not issubclass(field.accessor_class, _Watching):
        field.accessor_class = type("WatchedAccessor", (_Watching, field.accessor_class), {})
    setattr(model, name, field.accessor_class(model, field, name))


def digest(value: Any) -> bytes | None:
    """Return a digest of the value's JSON form; None for a value without one."""
    try:
        return hashlib.blake2b(msgspec.json.encode(value)).digest()
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None


def _is_changed_in_place(record: Any, name: str) -> bool:
    """Return whether the value that was read from the attribute is still its value, and is now different."""
    value, before = record.__dict__.get(SEEN, (None, None))
    return before is not None and record.__data__.get(name) is value and digest(value) != before


class _Watching(peewee.FieldAccessor):
    """A field's accessor that notes a digest of the value it returns."""

    def __get__(self, instance: Any, instance_type: Any = None) -> Any:
        read: Any = super().__get__
        value = read(instance, instance_type)
        if instance is not None and isinstance(value, (dict, list)):
            seen = instance.__dict__.get(SEEN)
            if seen is None or seen[0] is not value:
                instance.__dict__[SEEN] = value, digest(value)
        return value
