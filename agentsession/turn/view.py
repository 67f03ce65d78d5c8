"""What the model is shown: valid for a provider, whatever is stored.

System message first, then user and assistant in turns, the user first and last, nothing empty. Turns
that failed, or were interrupted before a word came, are hidden; nothing stored is changed by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from agentsession.context import Context, Message
from agentsession.schema import InputSchema
from agentsession.turn.effects import Shown, View

SILENT = "(no text)"
BEGINNING = "(The conversation begins.)"


def view(context: Context, system: str, schema: InputSchema) -> View:
    """The messages that are sent for the open turn, which is the last one of the context."""
    hidden = hidden_turns(context.messages)
    visible = (message for message in context.messages if message.turn not in hidden)
    head = (Shown("system", system),) if system.strip() else ()
    return head + in_turns(_shown(visible, schema))


def hidden_turns(messages: Iterable[Message]) -> set[str]:
    """Ids of the turns that the model is not shown, read from the messages alone."""
    hidden: set[str] = set()
    for message in messages:
        status = message.metadata.get("status")
        if message.role == "user" and status in ("failed", "interrupted"):
            hidden.add(message.turn)
        elif message.role == "assistant" and status == "interrupted" and message.text.strip():
            hidden.discard(message.turn)
    return hidden


def in_turns(messages: Iterable[Shown]) -> View:
    """Roles in order: neighbours of one role are joined, an assistant that speaks first is introduced."""
    joined = [
        Shown(role, "\n\n".join(message.content for message in neighbours))
        for role, neighbours in groupby(messages, attrgetter("role"))
    ]
    if joined and joined[0].role == "assistant":
        joined.insert(0, Shown("user", BEGINNING))
    return tuple(joined)


def _shown(messages: Iterable[Message], schema: InputSchema) -> Iterator[Shown]:
    for message in messages:
        if message.role == "user":
            content = message.content
            text = message.text if isinstance(content, list) else schema.show(content)
            yield Shown("user", text if text.strip() else SILENT)
        elif message.role == "assistant":
            text = message.text
            yield Shown("assistant", text if text.strip() else SILENT)


def latest_reply(context: Context) -> Message | None:
    """The reply of the latest completed turn, read from the messages."""
    hidden = hidden_turns(context.messages)
    running = context.turn.id if context.turn is not None and context.turn.is_open else None
    for message in reversed(context.messages):
        is_reply = message.role == "assistant" and message.metadata.get("status") is None
        if is_reply and message.turn not in hidden and message.turn != running:
            return message
    return None
