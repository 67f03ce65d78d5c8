"""The stored map and its typed form. Version 1; older maps are upgraded as they are read."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from agentsession.context import LAYOUT, VERSION
from agentsession.errors import ContextUnreadable
from agentsession.json_values import Json, JsonMap
from agentsession.turn.effects import Change

T = TypeVar("T")

OURS = {"revision", "layout", "instruction_args", "turn"}
"""Keys that only a map with a version can have."""


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
    """A decoded value as a map of version 1. NULL, `{}` and a map without `v` are upgraded, not stored."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _unreadable(where, f"the stored context is a JSON {_kind(value)}, not an object")
    if not is_current(value):
        return _upgraded(value, where) if value else value
    version = value["v"]
    if version != VERSION:
        found = f"the stored context has version {version!r}, this package reads version {VERSION}"
        raise _unreadable(where, found, "install the version of agentsession that wrote it")
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
    return "v" in map_


def whole(map_: JsonMap, change: Change) -> JsonMap:
    """The map after a change, to be written in full; other keys of the map are kept."""
    messages = list(map_.get("messages", ()))
    for position, metadata in change.metadata.items():
        messages[position] = {**messages[position], "metadata": dict(metadata)}
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


def _upgraded(map_: JsonMap, where: str) -> JsonMap:
    """A map of the original package (`messages`, `metadata`, `input`): its messages get ids and turns."""
    taken = OURS & map_.keys()
    if taken:
        raise _unreadable(where, f"the stored context has no version but the key {min(taken)!r}")
    messages = map_.get("messages") or []
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _unreadable(where, "the stored context's `messages` is no list of objects")
    upgraded: list[JsonMap] = []
    turn = 0
    number = 0
    for message in messages:
        if message.get("role") == "user":
            turn, number = turn + 1, 0
        key = f"old-{turn}"
        content, metadata = message.get("content"), message.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise _unreadable(where, f"the metadata of message {len(upgraded)} is no object")
        upgraded.append(
            {
                **message,
                "id": f"{key}:{number}",
                "turn": key,
                "content": "" if content is None else content,
                "metadata": {**metadata, **_renamed(message)},
            }
        )
        number += 1
    return {**map_, "messages": upgraded, "metadata": map_.get("metadata") or {}}


def _renamed(message: JsonMap) -> JsonMap:
    return {f"old_{name}": message[name] for name in ("id", "turn") if name in message}


def _kind(value: Json) -> str:
    return {list: "array", str: "string", bool: "boolean"}.get(type(value), "number")


def _unreadable(
    where: str, found: str, fix: str = "repair the row; nothing was changed"
) -> ContextUnreadable:
    return ContextUnreadable(found, where=where, why="guessing could lose messages", fix=fix)
