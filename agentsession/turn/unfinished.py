"""What becomes of a turn that did not complete: how it is told, what it leaves behind, how it is run again.

The words stay, and so does what had come of the reply: as a message with the turn's status, or, once the turn
is run again, in the metadata of the user's message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agentsession.context import Context, Message
from agentsession.errors import ContextUnreadable
from agentsession.json_values import JsonMap, storable_text
from agentsession.turn.effects import Change
from agentsession.turn.exchange import Delta
from agentsession.turn_state import AskedApproval, Turn, TurnError

ABANDONED = TurnError("LeaseExpired", "the process that ran this turn went away")
OVERDUE = TurnError("ApprovalOverdue", "nobody has approved a call of this turn in time")
CANCELLED = TurnError("TurnCancelled", "cancel_session stopped this turn")


def decided(turn: Turn, now: float) -> tuple[AskedApproval, ...]:
    """The approvals of a turn that is run again: what nobody has decided in time is rejected."""
    if not turn.is_overdue(now):
        return turn.approvals
    late = "nobody has approved it in time"
    return tuple(
        msgspec.structs.replace(asked, status="rejected", reason=late) if asked.status == "pending" else asked
        for asked in turn.approvals
    )


def begun(approvals: tuple[AskedApproval, ...]) -> tuple[AskedApproval, ...]:
    """The same once the turn is run on: what was approved may have been carried out from now on."""
    return tuple(
        msgspec.structs.replace(asked, begun=True) if asked.is_to_run else asked for asked in approvals
    )


def told(context: Context, turn: Turn, status: str, error: TurnError) -> dict[str, JsonMap]:
    """Metadata of the user's message that tells how the turn ended."""
    opening = context.opening(turn.id)
    if opening is None:
        return {}
    _refuse_shared_id(context, opening)
    mark: JsonMap = {"status": status, "error": msgspec.to_builtins(error)}
    if turn.approvals:
        mark["approvals"] = msgspec.to_builtins(list(turn.approvals))
    return {opening.id: {**opening.metadata, **mark}}


def left_behind(context: Context, turn: Turn, status: str, received: Delta) -> tuple[Message, ...]:
    """What had come of the reply, as a message."""
    if not received:
        return ()
    text, thinking = storable_text(received.text), storable_text(received.thinking)
    return (reply_message(context, turn, text, thinking, {"status": status}),)


def closed(context: Context, turn: Turn, error: TurnError) -> Change:
    """The write, as an outsider, that ends an open turn as interrupted."""
    return Change(
        turn.ended("interrupted", error=error, partial=""),
        left_behind(context, turn, "interrupted", Delta(turn.partial)),
        told(context, turn, "interrupted", error),
    )


def reopened(context: Context, opening: Message, turn: Turn) -> tuple[dict[str, JsonMap], str | None]:
    """Metadata that shows an ended turn to the model again, and the id of a partial reply that goes: its text
    is kept in that metadata."""
    _refuse_shared_id(context, opening)
    last, known = context.messages[-1], opening.metadata
    is_partial = last.turn == turn.id and last.role == "assistant" and "status" in last.metadata
    metadata = {key: value for key, value in known.items() if key not in ("status", "error", "approvals")}
    text = last.text if is_partial else turn.partial
    if text:
        metadata["partials"] = [*_partials(known), text]
    return ({} if metadata == known else {opening.id: metadata}), last.id if is_partial else None


def _partials(metadata: JsonMap) -> list[Any]:
    """The partial replies of earlier runs of the turn."""
    partials = metadata.get("partials", [])
    if not isinstance(partials, list):
        raise ContextUnreadable(
            "the `partials` of a stored message are not a list",
            why="they hold what the user saw of earlier replies",
            fix="repair the row; nothing was changed",
        )
    return partials


def _refuse_shared_id(context: Context, opening: Message) -> None:
    """Raise `ContextUnreadable` where the id of a message leads to another one, which would be changed."""
    if context.messages[context.position(opening.id)] is not opening:
        raise ContextUnreadable(
            "two messages of the stored context have the same id",
            why="a write to one of them could change the other",
            fix="repair the row; nothing was changed",
        )


def reply_message(
    context: Context, turn: Turn, text: str, thinking: str, metadata: Mapping[str, object]
) -> Message:
    """The next message of the turn, said by the model."""
    content: str | list[JsonMap] = text
    if thinking:
        content = [{"type": "thinking", "text": thinking}, {"type": "text", "text": text}]
    return Message(f"{turn.id}:{context.count}", turn.id, "assistant", content, dict(metadata))


def changed(context: Context, change: Change) -> Context:
    """The context as it is stored after a write."""
    messages = list(context.messages)
    if change.drop is not None:
        messages.pop()
    for id_, values in change.metadata.items():
        position = context.position(id_)
        messages[position] = msgspec.structs.replace(messages[position], metadata=values)
    count = context.count - (change.drop is not None) + len(change.append)
    return msgspec.structs.replace(context, messages=(*messages, *change.append), count=count)
