"""What the model is shown: valid for a provider, whatever is stored.

System message first, then user and assistant in turns, the user first and last, nothing empty. Turns
that failed, or were interrupted before a word came, are hidden; nothing stored is changed by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter, eq

from agentsession.context import Context, Message
from agentsession.schema import InputSchema
from agentsession.turn.effects import Shown, View

SILENT = "(no text)"
BEGINNING = "(The conversation begins.)"


def view(messages: Iterable[Message], system: str, schema: InputSchema) -> View:
    """What is sent for the open turn, which is the last one of these messages."""
    head = (Shown("system", system),) if system.strip() else ()
    return head + in_turns(_shown(messages, schema))


def visible(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages of the turns that the model may be shown."""
    hidden = hidden_turns(messages)
    return [message for message in messages if message.turn not in hidden] if hidden else messages


def hidden_turns(messages: Iterable[Message]) -> set[str]:
    """Ids of the turns that the model is not shown, read from the messages alone."""
    hidden: set[str] = set()
    for message in [message for message in messages if "status" in message.metadata]:
        status = message.metadata["status"]
        if message.role == "user" and status in ("failed", "interrupted"):
            hidden.add(message.turn)
        elif message.role == "assistant" and status == "interrupted" and message.text.strip():
            hidden.discard(message.turn)
    return hidden


def in_turns(messages: Iterable[Shown]) -> View:
    """Roles in order: neighbours of one role are joined, an assistant that speaks first is introduced."""
    joined = list(messages)
    roles = [message.role for message in joined]
    if any(map(eq, roles, roles[1:])):
        joined = [
            Shown(role, "\n\n".join(message.content for message in neighbours))
            for role, neighbours in groupby(joined, attrgetter("role"))
        ]
    if roles[:1] == ["assistant"]:
        joined.insert(0, Shown("user", BEGINNING))
    return tuple(joined)


def _shown(messages: Iterable[Message], schema: InputSchema) -> Iterable[Shown]:
    show = schema.show
    shown: list[Shown] = []
    for message in messages:
        role, content = message.role, message.content
        if role not in ("user", "assistant"):
            continue
        if isinstance(content, str):
            text = content
        else:
            text = show(content) if role == "user" and isinstance(content, dict) else message.text
        shown.append(Shown(role, text if text and not text.isspace() else SILENT))
    return shown


def latest_reply(context: Context) -> Message | None:
    """The reply of the latest completed turn, read from the messages."""
    hidden = hidden_turns(context.messages)
    running = context.turn.id if context.turn is not None and context.turn.is_open else None
    for message in reversed(context.messages):
        is_reply = message.role == "assistant" and message.metadata.get("status") is None
        if is_reply and message.turn not in hidden and message.turn != running:
            return message
    return None
