"""The write that ends a turn: completed, failed, left, or stopped until somebody has approved a call."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import msgspec

from agentsession._json_values import JsonMap, storable_text
from agentsession._turn.active_turn import ActiveTurn
from agentsession._turn.effects import (
    Change,
    Effect,
    Emit,
    Finish,
    Interrupted,
    Machine,
    Outcome,
    ToolResult,
    apply_change,
)
from agentsession._turn.guarded_write import write_as_holder
from agentsession._turn.model_io import Delta, Reply
from agentsession._turn.model_texts import NOT_PREPARED
from agentsession._turn.stored_outcome import result_of
from agentsession._turn.tool_messages import result_messages
from agentsession._turn_state import AWAITING, ApprovalState, Turn, TurnError
from agentsession.context import Context, Message
from agentsession.errors import (
    ContextUnreadable,
    LeaseLost,
    SessionNotFound,
    StorageFailed,
    TurnCancelled,
    TurnFailed,
)
from agentsession.events import ApprovalNeeded

MAX_TURN_ERROR = 2_000
"""Characters of an error's message that are stored."""


def completed(active: ActiveTurn, reply: Reply, results: Sequence[ToolResult] = ()) -> Machine:
    """Store the reply, with what the whole turn has cost, and results that came with it."""
    facts = active.facts(reply)
    turn = active.turn.ended("completed", usage=facts.usage, approvals=())
    ran = result_messages(active.context, active.turn, results) if results else ()
    context = apply_change(active.context, Change(turn, ran)) if ran else active.context
    said = reply_message(context, turn, reply.text, reply.thinking, msgspec.to_builtins(facts))
    result = result_of(said, active.plan.agent.output, reply.raw)
    metadata = active.metadata() if active.attempts else {}
    change = Change(turn, (*ran, said), metadata)
    try:
        yield from write_as_holder(Finish(change, active.claim))
    except (LeaseLost, SessionNotFound, StorageFailed, TurnCancelled) as gone:
        gone.result = result
        raise
    if not active.is_stored:
        active.has_changed(change)
    return Outcome(turn, result)


def halted(active: ActiveTurn, results: Sequence[ToolResult]) -> Machine:
    """Store what a tool has ended the turn with as its reply, in the same write as the result of the call."""
    text = next(each.text for each in results if each.halt is not None)
    return (yield from completed(active, Reply(text, finish_reason="halt", cost=0.0), results))


def failed(active: ActiveTurn, failure: TurnFailed) -> Generator[Effect, Any, None]:
    """Store that the turn has failed, with what had come of the reply."""
    error = TurnError(type(failure).__name__, storable_text(str(failure.found)[:MAX_TURN_ERROR]))
    yield from write_as_holder(_ended(active, "failed", error, active.came))


def left(active: ActiveTurn, stop: Interrupted) -> Generator[Effect, Any, None]:
    """Store that the caller has left, with what had come."""
    error = TurnError(stop.why, "the caller stopped the turn")
    came = stop.received or active.came
    ran = stop.ran
    if hasattr(active.plan.agent.hooks, "prepare_tool_results"):  # what nobody has prepared is not shown
        ran = tuple(each.showing(NOT_PREPARED) for each in ran)
    yield from write_as_holder(_ended(active, "interrupted", error, came, ran))


def awaiting(active: ActiveTurn) -> Machine:
    """Store that the turn waits for its approvals, and end the claim."""
    turn = active.turn.ended(AWAITING, usage=active.facts().usage)
    yield from write_as_holder(Finish(Change(turn), active.claim, active.plan.agent.approval_timeout))
    yield from still_needed(turn)
    return Outcome(turn)


def still_needed(turn: Turn) -> Generator[Effect, Any, None]:
    """Tell of the approvals that a turn waits for."""
    for asked in turn.awaited(-math.inf):
        yield Emit(ApprovalNeeded(asked.call, asked.tool, asked.given))


def _ended(
    active: ActiveTurn, status: str, error: TurnError, received: Delta, results: tuple[ToolResult, ...] = ()
) -> Finish:
    """The write that ends a turn without a whole reply; the user's message tells why."""
    ran = result_messages(active.context, active.turn, results)
    context = apply_change(active.context, Change(active.turn, ran, active.metadata()))
    partial = left_behind(context, active.turn, status, received)
    turn = active.turn.ended(status, error=error, usage=active.facts().usage)
    return Finish(Change(turn, (*ran, *partial), told(context, turn, status, error)), active.claim)


ABANDONED = TurnError("LeaseExpired", "the process that ran this turn went away")
OVERDUE = TurnError("ApprovalOverdue", "nobody has approved a call of this turn in time")
CANCELLED = TurnError("TurnCancelled", "cancel_session stopped this turn")


def decided(turn: Turn, now: float) -> tuple[ApprovalState, ...]:
    """The approvals of a turn that is run again: what nobody has decided in time is rejected."""
    if not turn.is_overdue(now):
        return turn.approvals
    late = "nobody has approved it in time"
    return tuple(
        msgspec.structs.replace(asked, status="rejected", reason=late) if asked.status == "pending" else asked
        for asked in turn.approvals
    )


def begun(approvals: tuple[ApprovalState, ...]) -> tuple[ApprovalState, ...]:
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


def closing_change(context: Context, turn: Turn, error: TurnError) -> Change:
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
