"""The stored context: its JSON map, its typed form, and the map after a change.

A map of an older version is converted to the current one when it is read. The revision counts writes, so it
is the one key in which a plain and a streamed turn differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from agentsession._json_values import Json, JsonMap
from agentsession._options import DOCUMENT, ROWS, Layout
from agentsession._turn.effects import Change
from agentsession._turn_state import Turn
from agentsession.context import VERSION, Context, Message
from agentsession.errors import ContextUnreadable, LayoutMismatch

T = TypeVar("T")

OURS = {"revision", "layout", "instruction_args", "turn"}
"""Keys that only a map with a version can have."""


class Misfit(ValueError):
    """A map does not have the form of its version."""


def decode(text: str | bytes | None, where: str) -> JsonMap:
    """Return the map of a stored JSON text. Raises `ContextUnreadable`."""
    try:
        value = msgspec.json.decode(text) if text is not None else None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise unreadable(
            where, f"the stored context is not JSON, or holds a lone surrogate: {error}"
        ) from error
    return as_map(value, where)


def as_map(value: Json, where: str) -> JsonMap:
    """Return a decoded value as a map of the current version; NULL is an empty map."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise unreadable(where, f"the stored context is a JSON {_kind(value)}, not an object")
    value = _cast_up(value, where)
    if not is_versioned(value):
        return value
    if not _is_count(value.get("revision")):
        raise unreadable(where, "the stored context has no revision number")
    layout = value.get("layout", DOCUMENT)
    if layout == DOCUMENT and not isinstance(value.get("messages"), list):
        raise unreadable(where, "the stored context has no list of messages")
    if layout == ROWS:
        _refuse_bad_head(value, where)
    if layout not in (DOCUMENT, ROWS):
        raise unreadable(where, f"the stored context has the layout {layout!r}")
    return value


def _refuse_bad_head(head: JsonMap, where: str) -> None:
    """Raise `ContextUnreadable` for a head whose numbers were damaged."""
    if not (is_position(head.get("count")) and is_position(head.get("turns"))):
        raise unreadable(where, "the stored context has no count of messages and turns")
    if not _is_count(head.get("size", 0)):
        raise unreadable(where, "the size of the messages in the stored context is not a count of bytes")
    if not is_position(head.get("system", 0)):
        raise unreadable(where, "the position of the system message in the stored context is not a position")


def stored_layout(map_: JsonMap) -> str | None:
    """Return the layout in which a session is stored; None if nothing is stored yet."""
    if is_versioned(map_):
        return str(map_.get("layout", DOCUMENT))
    return DOCUMENT if map_.get("messages") else None


def refuse_other_layout(map_: JsonMap, layout: Layout, where: str) -> None:
    """Raise `LayoutMismatch` if the session is stored in the other layout than the model declares."""
    found = stored_layout(map_)
    if found in (None, layout):
        return
    raise LayoutMismatch(
        f"the session is stored as {found}, and the model declares messages={layout!r}",
        where=where,
        why="new messages would hide the stored ones, which are elsewhere; nothing was written",
        fix=f"move the table with python -m agentsession migrate module:Model --to {layout}, "
        f"or declare messages={found!r}",
    )


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def is_position(value: Json) -> bool:
    """Return whether it is the position of a message with room for more after it (a 32 bit column)."""
    return _is_count(value) and value < 2**30  # type: ignore[operator]


def convert(value: Json, type_: type[T], where: str) -> T:
    """Return the typed form of a stored value. Raises `ContextUnreadable`, which names what does not fit."""
    try:
        return msgspec.convert(value, type_)
    except (msgspec.ValidationError, RecursionError) as error:
        raise unreadable(where, f"the stored value does not fit: {error}") from error


class _Document(msgspec.Struct):
    """A document, decoded in one step."""

    v: int | None = None
    revision: int = -1
    layout: str = DOCUMENT
    messages: tuple[Message, ...] | None = None
    metadata: JsonMap = {}
    instruction_args: JsonMap = {}
    turn: Turn | None = None


_decode_document = msgspec.json.Decoder(_Document).decode


def decode_document(text: str | None) -> Context | None:
    """Return a document of the current version as typed values, which is faster than through its map.

    Returns None for anything else, which `decode` and `convert` read, or refuse with a reason.
    """
    try:
        found = _decode_document(text or "null")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    is_ours = found.v == VERSION and found.layout == DOCUMENT and _is_count(found.revision)
    if not is_ours or found.messages is None:
        return None
    return Context(
        revision=found.revision,
        messages=found.messages,
        metadata=found.metadata,
        instruction_args=found.instruction_args,
        turn=found.turn,
    )


def is_versioned(map_: JsonMap) -> bool:
    """Return whether the map has a version, and so a revision and a layout, which no upcaster changes."""
    return bool(map_.get("v", 0))


def is_current(map_: JsonMap) -> bool:
    """Return whether the map is of the current version, so that SQL can change it in place.

    A map of an older version is replaced as a whole by the next claim.
    """
    return map_.get("v") == VERSION


def _cast_up(map_: JsonMap, where: str) -> JsonMap:
    """Convert an older map, one version after the other. Its `v` stays, because the row is not changed."""
    version = map_.get("v", 0)
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version <= VERSION:
        found = f"the stored context has version {version!r}, this package reads versions up to {VERSION}"
        raise unreadable(where, found, "install the version of agentsession that wrote it, or a newer one")
    try:
        for older in range(version, VERSION):
            map_ = UPCASTERS[older](map_)
    except Misfit as misfit:
        raise unreadable(where, str(misfit)) from misfit
    return map_


def from_unversioned(map_: JsonMap) -> JsonMap:
    """Convert a map of the original package (`messages`, `metadata`, `input`), whose messages have no ids.

    They get ids and turns.
    """
    if not map_:
        return map_
    taken = OURS & map_.keys()
    if taken:
        raise Misfit(f"the stored context has no version but the key {min(taken)!r}")
    messages = map_.get("messages") or []
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise Misfit("the stored context's `messages` is not a list of objects")
    upgraded: list[JsonMap] = []
    turn = number = 0
    for message in messages:
        if message.get("role") == "user":
            turn, number = turn + 1, 0
        key = f"old-{turn}"
        content, metadata = message.get("content"), message.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise Misfit(f"the metadata of message {len(upgraded)} is not an object")
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


UPCASTERS: Mapping[int, Callable[[JsonMap], JsonMap]] = {0: from_unversioned}
"""The version of a map, and the function that converts it to the next one. Maps without a version have 0."""


def document_after(map_: JsonMap, change: Change) -> JsonMap:
    """Return a document after a change. Its other keys are kept."""
    messages = list(map_.get("messages", ()))
    for id_, metadata in change.metadata.items():
        index = position(map_, id_)
        messages[index] = {**messages[index], "metadata": dict(metadata)}
    if change.drop is not None:
        del messages[position(map_, change.drop)]
    messages += msgspec.to_builtins(change.append)
    return map_after(map_, change, {"layout": DOCUMENT, "messages": messages})


def map_after(map_: JsonMap, change: Change, own: JsonMap) -> JsonMap:
    """Return the map after a change, with the keys of its layout in `own`. Its other keys are kept."""
    args = change.instruction_args
    return {
        **map_,
        "v": VERSION,
        "revision": map_.get("revision", 0) + 1,
        **own,
        "metadata": map_.get("metadata", {}),
        "instruction_args": map_.get("instruction_args", {}) if args is None else args,
        "turn": msgspec.to_builtins(change.turn),
    }


def position(map_: JsonMap, id_: str) -> int:
    """Return the position of the message with this id in a document."""
    messages = map_["messages"]
    for index in reversed(range(len(messages))):
        if messages[index]["id"] == id_:
            return index
    raise LookupError(f"no message has the id {id_!r}")


def _kind(value: Json) -> str:
    return {list: "array", str: "string", bool: "boolean"}.get(type(value), "number")


def unreadable(where: str, found: str, fix: str = "repair the row; nothing was changed") -> ContextUnreadable:
    return ContextUnreadable(found, where=where, why="guessing could lose messages", fix=fix)
