"""The prompt for the open turn, built from the stored messages and valid for every provider.

The system message comes first, then user and assistant alternate, beginning with the user. Each call of an
assistant message is followed by one result, in order. No message is empty. Turns that failed, or that were
interrupted before any text was received, are left out. A turn whose tools ran is included even if it failed,
without the results, so that the model does not repeat what was done. Nothing that is stored is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, eq
from typing import Any

from agentsession._schema import InputSchema, SchemaMismatch
from agentsession._turn.model_io import (
    BEGINNING,
    ENDED,
    LEFT_OUT,
    NOT_RUN,
    SILENT,
    UNKNOWN,
    Prompt,
    PromptMessage,
    Reply,
    with_edited,
)
from agentsession._turn.tool_messages import (
    OPAQUE,
    RESULT,
    StoredCall,
    calls_of,
    is_step,
    prompt_call,
    prompt_call_id,
    results_of,
)
from agentsession.context import Context, Message


def build_prompt(
    messages: Iterable[Message],
    system: str,
    schema: InputSchema,
    client: str = "",
    results: Mapping[str, Message] | None = None,
) -> Prompt:
    """Return the prompt for the open turn, which is the last turn of these messages.

    `results` are the results of calls, if the messages do not contain them all.
    """
    head = (PromptMessage("system", system),) if system.strip() else ()
    return head + merge_roles(to_prompt_messages(list(messages), schema, client, results))


def select_visible(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages of the turns that the prompt may contain."""
    marked = [message for message in messages if "status" in message.metadata]
    if not marked:
        return messages
    failed = {message.turn for message in marked if _has(message, "user", "failed")}
    hidden = find_hidden_turns(messages)
    cut = [message for message in marked if message.turn in failed and _has(message, "assistant", "failed")]
    partial = {message.id for message in cut}
    return [message for message in messages if message.turn not in hidden and message.id not in partial]


def _has(message: Message, role: str, status: str) -> bool:
    return message.role == role and message.metadata.get("status") == status


def find_hidden_turns(messages: Iterable[Message]) -> set[str]:
    """Return the ids of the turns that the prompt leaves out.

    The metadata of the messages alone decides: without the `status` of its user's message, a turn is visible
    again.
    """
    hidden: set[str] = set()
    for message in messages:
        status = message.metadata.get("status")
        if message.role == "user" and status in ("failed", "interrupted"):
            hidden.add(message.turn)
        elif message.turn in hidden and message.role == "assistant":
            has_text = status == "interrupted" and bool(message.text.strip())
            if has_text or is_step(message):
                hidden.discard(message.turn)
    return hidden


def count_hidden_turns(turns: int, history_turns: int) -> int:
    """Return how many of these turns are before the window.

    The window begins at a multiple of a quarter of its length, counted from the first turn. So its beginning
    depends on the number of turns only, in both layouts, and moves rarely enough for prompt caches. Failed
    turns count as well: the window must not move when one of them runs again.
    """
    step = max(1, history_turns // 4)
    surplus = max(0, turns - history_turns)
    return -(-surplus // step) * step


def select_window(messages: Sequence[Message], turns: int, history_turns: int) -> Sequence[Message]:
    """Return the messages of the last turns. `turns` counts all turns, those of missing messages included."""
    openings = [position for position, message in enumerate(messages) if message.role == "user"]
    missing = turns - len(openings)
    surplus = count_hidden_turns(turns, history_turns) - missing
    return messages[openings[surplus] :] if 0 < surplus < len(openings) else messages


def check_chosen(chosen: Any, opening: Message) -> Sequence[Message]:
    """Return the messages that a `history` function chose, with the open turn's message at the end.

    Raises `TypeError` if they are not messages.
    """
    if not isinstance(chosen, Iterable):
        raise TypeError(f"history returned a {type(chosen).__name__}, not messages")
    messages = list(chosen)
    for message in messages:
        if not isinstance(message, Message):
            raise TypeError(f"history returned a {type(message).__name__} among its messages")
    last = next((message for message in messages if message.id == opening.id), opening)
    return [*(message for message in messages if message.id != opening.id), last]


def merge_roles(messages: Sequence[PromptMessage]) -> Prompt:
    """Return the messages with alternating roles.

    Neighbours of one role are merged. A first assistant message gets a user message before it, and a user
    message that follows a result gets an assistant message between them.
    """
    roles = [message.role for message in messages]
    if roles[:1] != ["assistant"] and not any(map(eq, roles, roles[1:])) and "tool" not in roles:
        return tuple(messages)
    merged: list[PromptMessage] = []
    before = ""
    for role, group in groupby(messages, attrgetter("role")):
        neighbours = list(group)
        if role == "assistant" and not before:
            merged.append(PromptMessage("user", BEGINNING))
        elif role == "user" and before == "tool":
            merged.append(PromptMessage("assistant", ENDED))
        merged += neighbours if role == "tool" else [_merge(neighbours)]
        before = role
    return tuple(merged)


def _merge(neighbours: list[PromptMessage]) -> PromptMessage:
    """Return neighbours of one role as one message with the calls of the last."""
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
    """Return the stored messages as prompt messages, each step with its results directly after it."""
    show = schema.show
    converted: list[PromptMessage] = []
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
            converted += _step(message, results, opening, client)
            continue
        else:
            text = show(content) if role == "user" and isinstance(content, dict) else message.text
        converted.append(PromptMessage(role, text if text and not text.isspace() else SILENT))
    return converted


def _step(
    message: Message, results: Mapping[str, Message], opening: Message | None, client: str
) -> Iterator[PromptMessage]:
    calls = calls_of(message)
    # Another client would refuse opaque data, and a turn may change its client when it runs again.
    opaque = [part.get("data") for part in message.parts(OPAQUE) if part.get("client") == client]
    known = opaque[0] if opaque and isinstance(opaque[0], str) else ""
    text = message.text if message.text.strip() else ""
    yield PromptMessage("assistant", text, tuple(map(prompt_call, calls)), "", known)
    for call in calls:
        content = _result_text(call, results.get(call.key), opening)
        yield PromptMessage("tool", content if content.strip() else SILENT, call=prompt_call_id(call.key))


def _result_text(call: StoredCall, stored: Message | None, opening: Message | None) -> str:
    """Return the text of a call's result for the model, with the arguments that a person has edited."""
    metadata = {} if opening is None else opening.metadata
    if stored is None:
        return NOT_RUN if _has_not_run(call, metadata.get("approvals")) else UNKNOWN
    # The result may have been the reason for the failure of its turn.
    if metadata.get("status") == "failed" and stored.metadata.get("outcome") == "completed":
        return LEFT_OUT
    part = next(part for part in stored.parts(RESULT) if str(part.get("call")) == call.key)
    text = str(part.get("shown", part.get("content", "")))
    approval = stored.metadata.get("approval")
    edited = approval.get("edited") if isinstance(approval, dict) else None
    return text if edited is None else with_edited(str(edited), text)


def _has_not_run(call: StoredCall, approvals: object) -> bool:
    """Return whether the turn ended before this call was approved, or before it ran again after that."""
    known = approvals if isinstance(approvals, list) else []
    mine = [each for each in known if isinstance(each, dict) and each.get("call") == call.key]
    return any(each.get("status") != "approved" or not each.get("begun") for each in mine)


def latest_reply(context: Context) -> Message | None:
    """Return the reply of the latest completed turn."""
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


def repair_messages(reply: Reply, mismatch: SchemaMismatch) -> Prompt:
    """Return the messages that ask the model again after a reply that does not fit."""
    text = reply.text if reply.text.strip() else SILENT
    request = f"That reply does not fit the required format: {mismatch}. Answer again, in that format only."
    return PromptMessage("assistant", text), PromptMessage("user", request)
