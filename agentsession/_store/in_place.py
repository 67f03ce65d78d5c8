"""Changes inside the map of a record's context attribute, which Peewee cannot see.

The map is encoded when it is first read as an attribute, and again by `save()`: a record whose context nobody
reads costs nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import peewee

SEEN = "_agentsession_seen"


def watch(model: type[peewee.Model], name: str) -> None:
    """Note what the attribute holds when it is first read, on the records of the model and of its subclasses,
    which copy the field."""
    meta: Any = model._meta
    field = meta.fields[name]
    if not issubclass(field.accessor_class, _Watching):
        field.accessor_class = type("WatchedAccessor", (_Watching, field.accessor_class), {})
    setattr(model, name, field.accessor_class(model, field, name))


def is_changed_in_place(record: Any, name: str) -> bool:
    """Return whether the value that was read from the attribute is still its value, and is now different."""
    value, before = record.__dict__.get(SEEN, (None, None))
    return before is not None and record.__data__.get(name) is value and digest(value) != before


def forget(record: Any) -> None:
    """The attribute has a new value."""
    record.__dict__.pop(SEEN, None)


def digest(value: Any) -> bytes | None:
    """None for a value without a JSON form."""
    try:
        return hashlib.blake2b(msgspec.json.encode(value)).digest()
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None


class _Watching(peewee.FieldAccessor):
    """A field's accessor that notes the value it gives."""

    def __get__(self, instance: Any, instance_type: Any = None) -> Any:
        read: Any = super().__get__
        value = read(instance, instance_type)
        if instance is not None and isinstance(value, (dict, list)):
            seen = instance.__dict__.get(SEEN)
            if seen is None or seen[0] is not value:
                instance.__dict__[SEEN] = value, digest(value)
        return value
