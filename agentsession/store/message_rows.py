"""Messages as rows: the columns of one, and the messages that rows are read as.

The id of a message is its turn and its position, so it needs no column. What else a message of a document
had (an id of another form, keys that are not ours) is kept under one key of its row's metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from agentsession.context import Message
from agentsession.json_values import JsonMap, compact
from agentsession.store.format import unreadable

OWN = ("seq", "turn", "role", "content", "metadata")
"""The fields of a message row, but for the one that says whose it is."""

TURN_LENGTH = 255
"""Characters of an idempotency key, which is the id of its turn."""

ROLE_LENGTH = 20

OTHER = "agentsession_document"
"""The key of a row's metadata for what a message of a document had beside."""

Content = str | list[JsonMap] | JsonMap

_content = msgspec.json.Decoder(Content).decode
_metadata = msgspec.json.Decoder(JsonMap).decode

Row = Sequence[Any]
"""The values of `OWN`, content and metadata as JSON text."""


def columns_of(message: JsonMap, seq: int) -> dict[str, Any]:
    """The row of a message that stands in a document in this form."""
    metadata = message.get("metadata") or {}
    other = {name: value for name, value in message.items() if name not in OWN and name != "id"}
    if message["id"] != f"{message['turn']}:{seq}":
        other["id"] = message["id"]
    if other:
        metadata = {**metadata, OTHER: other}
    content = compact(message["content"])
    return {
        "seq": seq,
        "turn": message["turn"],
        "role": message["role"],
        "content": content,
        "metadata": compact(metadata),
    }


def as_document(row: Row) -> JsonMap:
    """The same, back from its row."""
    message = _message_of(row, "")
    return {**msgspec.to_builtins(_restored(message)), **_other(message)}


def rewritten(metadata: JsonMap, row: Row | None) -> str:
    """New metadata for a row, which keeps what its message had in a document."""
    known = {} if row is None or row[-2] is None else _metadata(row[-2])
    return compact({**metadata, OTHER: known[OTHER]} if OTHER in known else metadata)


def messages_of(rows: Sequence[Row], place: str) -> tuple[Message, ...]:
    """The messages of these rows; raises `ContextUnreadable` that names a row that is none."""
    try:
        messages = [
            Message(f"{turn}:{seq}", turn, role, _content(content), _metadata(metadata))
            for seq, turn, role, content, metadata, *_ in rows
        ]
    except (TypeError, ValueError):
        messages = [_message_of(row, place) for row in rows]
    return tuple([_restored(each) if OTHER in each.metadata else each for each in messages])


def _message_of(row: Row, place: str) -> Message:
    """One that may have been written by hand, without metadata; or one that cannot be read."""
    seq, turn, role, content, metadata, *_ = row
    try:
        return Message(f"{turn}:{seq}", turn, role, _content(content or '""'), _metadata(metadata or "{}"))
    except (TypeError, ValueError) as error:
        raise unreadable(f"{place} message {seq}", f"the row is no message: {error}") from error


def _restored(message: Message) -> Message:
    """With the id that it had in a document."""
    metadata = {key: value for key, value in message.metadata.items() if key != OTHER}
    return msgspec.structs.replace(message, id=_other(message).get("id", message.id), metadata=metadata)


def _other(message: Message) -> JsonMap:
    other = message.metadata.get(OTHER, {})
    return other if isinstance(other, dict) else {}
