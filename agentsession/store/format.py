"""The stored map and its typed form. Older maps are brought up to today's version as they are read."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from agentsession.context import LAYOUT, VERSION, Context, Turn
from agentsession.errors import ContextUnreadable
from agentsession.json_values import Json, JsonMap
from agentsession.store.upcasters import UPCASTERS, Misfit
from agentsession.turn.effects import Change

T = TypeVar("T")


def decode(text: str | bytes | None, where: str) -> JsonMap:
    """The stored JSON text as a map; raises `ContextUnreadable`."""
    try:
        value = msgspec.json.decode(text) if text is not None else None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _unreadable(
            where, f"the stored context is no JSON, or holds a lone surrogate: {error}"
        ) from error
    return as_map(value, where)


def as_map(value: Json, where: str) -> JsonMap:
    """A decoded value as a map of today's version, in memory only; NULL is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _unreadable(where, f"the stored context is a JSON {_kind(value)}, not an object")
    value = _cast_up(value, where)
    if not is_current(value):
        return value
    if value.get("layout", LAYOUT) != LAYOUT:
        raise _unreadable(where, f"the stored context has the layout {value['layout']!r}, not {LAYOUT!r}")
    revision = value.get("revision")
    if (
        not isinstance(revision, int)
        or not 0 <= revision < 2**62
        or not isinstance(value.get("messages"), list)
    ):
        raise _unreadable(where, "the stored context has no revision number or no list of messages")
    return value


def convert(value: Json, type_: type[T], where: str) -> T:
    """The typed form of a stored value; raises `ContextUnreadable` and names the place that does not fit."""
    try:
        return msgspec.convert(value, type_)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _unreadable(where, f"what is stored does not fit: {error}") from error


def is_current(map_: JsonMap) -> bool:
    """Was it stored by this format, so that it can be changed in place?"""
    return map_.get("v") == VERSION


def _cast_up(map_: JsonMap, where: str) -> JsonMap:
    """An older map, one version after the other. Its own `v` stays, since the row is still as it was."""
    version = map_.get("v", 0)
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version <= VERSION:
        found = f"the stored context has version {version!r}, this package reads versions up to {VERSION}"
        raise _unreadable(where, found, "install the version of agentsession that wrote it, or a newer one")
    try:
        for older in range(version, VERSION):
            map_ = UPCASTERS[older](map_)
    except Misfit as misfit:
        raise _unreadable(where, str(misfit)) from misfit
    return map_


def whole(map_: JsonMap, change: Change) -> JsonMap:
    """The map after a change, to be written in full; other keys of the map are kept."""
    messages = list(map_.get("messages", ()))
    for position, metadata in change.metadata.items():
        messages[position] = {**messages[position], "metadata": dict(metadata)}
    if change.drop is not None:
        del messages[change.drop]
    args = change.instruction_args
    return {
        **map_,
        "v": VERSION,
        "revision": map_.get("revision", 0) + 1,
        "layout": LAYOUT,
        "messages": messages + [msgspec.to_builtins(message) for message in change.append],
        "metadata": map_.get("metadata", {}),
        "instruction_args": map_.get("instruction_args", {}) if args is None else args,
        "turn": msgspec.to_builtins(change.turn),
    }


def holds(context: Context, change: Change) -> bool:
    """Is this change stored? Compared by value: who stored the very same has stored it.

    An ended turn may have been followed by others since; an open one must be the latest.
    """
    if change.turn.is_open and not _same_turn(context.turn, change.turn):
        return False
    messages = {message.id: message for message in context.messages}
    return all(_equal(messages.get(message.id), message) for message in change.append) and all(
        position < len(context.messages) and _equal(context.messages[position].metadata, metadata)
        for position, metadata in change.metadata.items()
    )


def _same_turn(stored: Turn | None, turn: Turn) -> bool:
    return stored is not None and (stored.id, stored.status, stored.claim) == (
        turn.id,
        turn.status,
        turn.claim,
    )


def _equal(one: object, other: object) -> bool:
    """As JSON values, whatever the order of their keys and the form of their numbers."""
    return bool(_as_json(one) == _as_json(other))


def _as_json(value: object) -> Json:
    return msgspec.json.decode(msgspec.json.encode(value))  # type: ignore[no-any-return]


def _kind(value: Json) -> str:
    return {list: "array", str: "string", bool: "boolean"}.get(type(value), "number")


def _unreadable(
    where: str, found: str, fix: str = "repair the row; nothing was changed"
) -> ContextUnreadable:
    return ContextUnreadable(found, where=where, why="guessing could lose messages", fix=fix)
