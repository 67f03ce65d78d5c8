"""What the model is shown: valid for a provider, whatever is stored.

System message first, then user and assistant in turns, the user first; each call of an assistant is answered
once, right after it and in order; nothing is empty. Turns that failed, or were interrupted before anything
came, are hidden. One whose tools ran is shown as far as it got: what was done must not be done again because
nobody remembers. Nothing stored is changed by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, eq
from typing import Any

from agentsession._schema import InputSchema
from agentsession._turn.model_io import Prompt, PromptMessage
from agentsession._turn.model_texts import BEGINNING, ENDED, LEFT_OUT, NOT_RUN, SILENT, UNKNOWN, with_edited
from agentsession._turn.tool_messages import (
    OPAQUE,
    RESULT,
    StoredCall,
    calls_of,
    is_step,
    results_of,
    shown_call,
    shown_id,
)
from agentsession.context import Context, Message


def build_prompt(
    messages: Iterable[Message],
    system: str,
    schema: InputSchema,
    client: str = "",
    results: Mapping[str, Message] | None = None,
) -> Prompt:
    """What is sent for the open turn, which is the last one of these messages. `results` are those of calls,
    where not all of them are among the messages."""
    head = (PromptMessage("system", system),) if system.strip() else ()
    return head + merge_roles(to_prompt_messages(list(messages), schema, client, results))


def select_visible(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages of the turns that the model may be shown."""
    told = [message for message in messages if "status" in message.metadata]
    if not told:
        return messages
    failed = {message.turn for message in told if _has(message, "user", "failed")}
    hidden = find_hidden_turns(messages)
    cut = [message for message in told if message.turn in failed and _has(message, "assistant", "failed")]
    partial = {message.id for message in cut}
    return [message for message in messages if message.turn not in hidden and message.id not in partial]


def _has(message: Message, role: str, status: str) -> bool:
    return message.role == role and message.metadata.get("status") == status


def find_hidden_turns(messages: Iterable[Message]) -> set[str]:
    """Ids of the turns that the model is not shown, read from the messages alone."""
    hidden: set[str] = set()
    for message in messages:
        status = message.metadata.get("status")
        if message.role == "user" and status in ("failed", "interrupted"):
            hidden.add(message.turn)
        elif message.turn in hidden and message.role == "assistant":
            has_come = status == "interrupted" and bool(message.text.strip())
            if has_come or is_step(message):
                hidden.discard(message.turn)
    return hidden


def merge_roles(messages: Sequence[PromptMessage]) -> Prompt:
    """Roles in order: neighbours of one role are joined, an assistant that speaks first is introduced, and a
    user who speaks before the results were answered is heard after that."""
    roles = [message.role for message in messages]
    if roles[:1] != ["assistant"] and not any(map(eq, roles, roles[1:])) and "tool" not in roles:
        return tuple(messages)
    joined: list[PromptMessage] = []
    before = ""
    for role, group in groupby(messages, attrgetter("role")):
        neighbours = list(group)
        if role == "assistant" and not before:
            joined.append(PromptMessage("user", BEGINNING))
        elif role == "user" and before == "tool":
            joined.append(PromptMessage("assistant", ENDED))
        joined += neighbours if role == "tool" else [_joined(neighbours)]
        before = role
    return tuple(joined)


def _joined(neighbours: list[PromptMessage]) -> PromptMessage:
    """Neighbours of one role as one message, with the calls of the last."""
    *others, last = neighbours
    if not others:
        return last
    content = "\n\n".join(each.content for each in neighbours if each.content)
    return PromptMessage(last.role, content, last.calls, "", last.opaque)


def to_prompt_messages(
    messages: Sequence[Message],
    schema: InputSchema,
    client: str,
    results: Mapping[str, Message] | None = None,
) -> list[PromptMessage]:
    """These messages, each in the form for a model; the results of a step right behind it."""
    show = schema.show
    told: list[PromptMessage] = []
    opening: Message | None = None
    for message in messages:
        role, content = message.role, message.content
        if role not in ("user", "assistant"):
            continue
        if role == "user":
            opening = message
        if isinstance(content, str):
            text = content
        elif role == "assistant" and is_step(message):
            results = results_of(messages) if results is None else results
            told += _step(message, results, opening, client)
            continue
        else:
            text = show(content) if role == "user" and isinstance(content, dict) else message.text
        told.append(PromptMessage(role, text if text and not text.isspace() else SILENT))
    return told


def _step(
    message: Message, results: Mapping[str, Message], opening: Message | None, client: str
) -> Iterator[PromptMessage]:
    calls = calls_of(message)
    opaque = [part.get("data") for part in message.parts(OPAQUE) if part.get("client") == client]
    known = opaque[0] if opaque and isinstance(opaque[0], str) else ""
    text = message.text if message.text.strip() else ""
    yield PromptMessage("assistant", text, tuple(map(shown_call, calls)), "", known)
    for call in calls:
        content = _result(call, results.get(call.key), opening)
        yield PromptMessage("tool", content if content.strip() else SILENT, call=shown_id(call.key))


def _result(call: StoredCall, stored: Message | None, opening: Message | None) -> str:
    """What the model is told of a call."""
    metadata = {} if opening is None else opening.metadata
    if stored is None:
        return NOT_RUN if _was_not_begun(call, metadata.get("approvals")) else UNKNOWN
    if metadata.get("status") == "failed" and stored.metadata.get("outcome") == "completed":
        return LEFT_OUT
    part = next(part for part in stored.parts(RESULT) if str(part.get("call")) == call.key)
    text = str(part.get("shown", part.get("content", "")))
    approval = stored.metadata.get("approval")
    edited = approval.get("edited") if isinstance(approval, dict) else None
    return text if edited is None else with_edited(str(edited), text)


def _was_not_begun(call: StoredCall, approvals: object) -> bool:
    """Did a turn that has ended still wait for the approval of this call, or to be run on after it?"""
    asked = approvals if isinstance(approvals, list) else []
    mine = [each for each in asked if isinstance(each, dict) and each.get("call") == call.key]
    return any(each.get("status") != "approved" or not each.get("begun") for each in mine)


def latest_reply(context: Context) -> Message | None:
    """The reply of the latest completed turn, read from the messages."""
    ended_otherwise = {
        message.turn
        for message in context.messages
        if message.role == "user" and message.metadata.get("status") in ("failed", "interrupted")
    }
    running = context.turn.id if context.turn is not None and context.turn.is_open else None
    for message in reversed(context.messages):
        is_reply = message.role == "assistant" and message.metadata.get("status") is None
        if is_reply and message.turn not in ended_otherwise and message.turn != running:
            return message
    return None


def count_hidden_turns(turns: int, history_turns: int) -> int:
    """How many of so many turns stand before the window."""
    step = max(1, history_turns // 4)
    surplus = max(0, turns - history_turns)
    return -(-surplus // step) * step


def select_window(messages: Sequence[Message], turns: int, history_turns: int) -> Sequence[Message]:
    """The last messages of a conversation of so many turns, from which the first ones may be missing."""
    openings = [position for position, message in enumerate(messages) if message.role == "user"]
    missing = turns - len(openings)
    surplus = count_hidden_turns(turns, history_turns) - missing
    return messages[openings[surplus] :] if 0 < surplus < len(openings) else messages


def check_chosen(chosen: Any, opening: Message) -> Sequence[Message]:
    """What a function chose, and at last the words of the open turn; `TypeError` for no messages."""
    if not isinstance(chosen, Iterable):
        raise TypeError(f"history gave a {type(chosen).__name__}, not messages")
    messages = list(chosen)
    for message in messages:
        if not isinstance(message, Message):
            raise TypeError(f"history gave a {type(message).__name__} among its messages")
    words = next((message for message in messages if message.id == opening.id), opening)
    return [*(message for message in messages if message.id != opening.id), words]
