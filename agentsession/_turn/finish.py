"""The end of a turn: the holder's last write, the closing of a turn by another process, and its reopening.

The result or the error of a turn that has ended is read from its stored messages.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import msgspec

from agentsession._json_values import JsonMap, storable_text
from agentsession._schema import OutputSchema
from agentsession._turn.active_turn import ActiveTurn, apply_change
from agentsession._turn.approvals import emit_pending_approvals
from agentsession._turn.effects import (
    Change,
    Effect,
    Finish,
    Interrupted,
    Machine,
    Outcome,
    ToolResult,
)
from agentsession._turn.guarded_write import write_as_holder
from agentsession._turn.model_io import NOT_PREPARED, Delta, Reply
from agentsession._turn.plan import Plan, input_hash
from agentsession._turn.tool_messages import result_messages
from agentsession._turn_state import AWAITING, Turn, TurnError
from agentsession.context import Context, Message, ReplyFacts, Result
from agentsession.errors import (
    BudgetExceeded,
    ContextUnreadable,
    HookFailed,
    IdempotencyMismatch,
    LeaseLost,
    MaxIterations,
    OutputInvalid,
    ProviderFailed,
    SessionNotFound,
    StorageFailed,
    ToolFailed,
    TurnCancelled,
    TurnFailed,
)

MAX_TURN_ERROR = 2_000
"""The number of characters of an error's message that are stored."""

ABANDONED = TurnError("LeaseExpired", "the process that ran this turn went away")
OVERDUE = TurnError("ApprovalOverdue", "nobody has approved a call of this turn in time")
CANCELLED = TurnError("TurnCancelled", "cancel_session stopped this turn")

ERRORS: dict[str, type[TurnFailed]] = {
    kind.__name__: kind
    for kind in (BudgetExceeded, HookFailed, MaxIterations, OutputInvalid, ProviderFailed, ToolFailed)
}
NO_REPLY = TurnError("Unknown", "it has no reply")


def complete_turn(active: ActiveTurn, reply: Reply, results: Sequence[ToolResult] = ()) -> Machine:
    """Store the turn as completed: the reply, what the turn has cost, and results that end it."""
    facts = active.facts(reply)
    turn = active.turn.ended("completed", usage=facts.usage, approvals=())
    ran = result_messages(active.context, active.turn, results) if results else ()
    context = apply_change(active.context, Change(turn, ran)) if ran else active.context
    message = reply_message(context, turn, reply.text, reply.thinking, msgspec.to_builtins(facts))
    result = result_of(message, active.plan.agent.output, reply.raw)
    metadata = active.metadata() if active.attempts else {}
    change = Change(turn, (*ran, message), metadata)
    try:
        yield from write_as_holder(Finish(change, active.claim))
    except (LeaseLost, SessionNotFound, StorageFailed, TurnCancelled) as error:
        error.result = result
        raise
    if not active.is_stored:
        active.has_changed(change)
    return Outcome(turn, result)


def halt_turn(active: ActiveTurn, results: Sequence[ToolResult]) -> Machine:
    """Store the turn as completed, with the value of a tool as its reply.

    The result of the call is part of the same write: either the turn is completed, or the call has no result.
    """
    text = next(each.text for each in results if each.halt is not None)
    return (yield from complete_turn(active, Reply(text, finish_reason="halt", cost=0.0), results))


def fail_turn(active: ActiveTurn, failure: TurnFailed) -> Generator[Effect, Any, None]:
    """Store the turn as failed, with its partial reply."""
    error = TurnError(type(failure).__name__, storable_text(str(failure.found)[:MAX_TURN_ERROR]))
    yield from write_as_holder(_unfinished(active, "failed", error, active.partial_reply))


def interrupt_turn(active: ActiveTurn, interruption: Interrupted) -> Generator[Effect, Any, None]:
    """Store the turn as interrupted, with its partial reply and the results of calls that have ended."""
    error = TurnError(interruption.why, "the caller stopped the turn")
    received = interruption.received or active.partial_reply
    ran = interruption.ran
    if hasattr(active.plan.agent.hooks, "prepare_tool_results"):  # it has not seen these results
        ran = tuple(each.showing(NOT_PREPARED) for each in ran)
    yield from write_as_holder(_unfinished(active, "interrupted", error, received, ran))


def await_approvals(active: ActiveTurn) -> Machine:
    """Store the turn as waiting for its approvals, and end the claim."""
    turn = active.turn.ended(AWAITING, usage=active.facts().usage)
    yield from write_as_holder(Finish(Change(turn), active.claim, active.plan.agent.approval_timeout))
    yield from emit_pending_approvals(turn)
    return Outcome(turn)


def _unfinished(
    active: ActiveTurn, status: str, error: TurnError, received: Delta, results: tuple[ToolResult, ...] = ()
) -> Finish:
    """Return the write that ends a turn without a complete reply."""
    ran = result_messages(active.context, active.turn, results)
    context = apply_change(active.context, Change(active.turn, ran, active.metadata()))
    partial = partial_reply_messages(context, active.turn, status, received)
    turn = active.turn.ended(status, error=error, usage=active.facts().usage)
    return Finish(
        Change(turn, (*ran, *partial), failure_metadata(context, turn, status, error)), active.claim
    )


def closing_change(context: Context, turn: Turn, error: TurnError) -> Change:
    """Return the change with which a non-holder ends an open turn as interrupted."""
    return Change(
        turn.ended("interrupted", error=error, partial=""),
        partial_reply_messages(context, turn, "interrupted", Delta(turn.partial)),
        failure_metadata(context, turn, "interrupted", error),
    )


def failure_metadata(context: Context, turn: Turn, status: str, error: TurnError) -> dict[str, JsonMap]:
    """Return the metadata of the user's message for a turn that ended without a reply."""
    opening = context.opening(turn.id)
    if opening is None:
        return {}
    _refuse_shared_id(context, opening)
    mark: JsonMap = {"status": status, "error": msgspec.to_builtins(error)}
    if turn.approvals:
        mark["approvals"] = msgspec.to_builtins(list(turn.approvals))
    return {opening.id: {**opening.metadata, **mark}}


def partial_reply_messages(context: Context, turn: Turn, status: str, received: Delta) -> tuple[Message, ...]:
    """Return the message that stores a partial reply, so that the transcript has what the user saw."""
    if not received:
        return ()
    text, thinking = storable_text(received.text), storable_text(received.thinking)
    return (reply_message(context, turn, text, thinking, {"status": status}),)


def reply_message(
    context: Context, turn: Turn, text: str, thinking: str, metadata: Mapping[str, object]
) -> Message:
    """Return the next message of the turn, with a reply of the model."""
    content: str | list[JsonMap] = text
    if thinking:
        content = [{"type": "thinking", "text": thinking}, {"type": "text", "text": text}]
    return Message(f"{turn.id}:{context.count}", turn.id, "assistant", content, dict(metadata))


def reopening_metadata(
    context: Context, opening: Message, turn: Turn
) -> tuple[dict[str, JsonMap], str | None]:
    """Return the metadata with which an ended turn runs again, and the id of the partial reply to remove.

    The text of the partial reply is kept in the metadata: the transcript must not have two replies to one
    message.
    """
    _refuse_shared_id(context, opening)
    last, known = context.messages[-1], opening.metadata
    is_partial = last.turn == turn.id and last.role == "assistant" and "status" in last.metadata
    metadata = {key: value for key, value in known.items() if key not in ("status", "error", "approvals")}
    text = last.text if is_partial else turn.partial
    if text:
        metadata["partials"] = [*_partials(known), text]
    return ({} if metadata == known else {opening.id: metadata}), last.id if is_partial else None


def _partials(metadata: JsonMap) -> list[Any]:
    """Return the partial replies of earlier runs of the turn."""
    partials = metadata.get("partials", [])
    if not isinstance(partials, list):
        raise ContextUnreadable(
            "the `partials` of a stored message are not a list",
            why="they hold what the user saw of earlier replies",
            fix="repair the row; nothing was changed",
        )
    return partials


def _refuse_shared_id(context: Context, opening: Message) -> None:
    """Raise `ContextUnreadable` if another message has the same id, since the write would change that one."""
    if context.messages[context.position(opening.id)] is not opening:
        raise ContextUnreadable(
            "two messages of the stored context have the same id",
            why="a write to one of them could change the other",
            fix="repair the row; nothing was changed",
        )


def refuse_other_input(plan: Plan, context: Context) -> None:
    """Raise `IdempotencyMismatch` unless the turn of the key began with the same input."""
    opening = context.opening(plan.turn_id)
    if opening is not None and opening.metadata.get("input_hash") == input_hash(plan.content):
        return
    raise IdempotencyMismatch(
        f"the idempotency key {plan.turn_id!r} was used before, for another input",
        where=f"{plan.agent.qualified_name} idempotency_key",
        why="a key belongs to one message; nothing was stored and the model was not called",
        fix="use a new key for a new message",
    )


def outcome_of(plan: Plan, context: Context) -> Outcome:
    """Return the stored outcome of the turn of the key, or raise the error with which it ended."""
    replies = [
        message
        for message in context.messages
        if message.turn == plan.turn_id
        and message.role == "assistant"
        and message.metadata.get("status") is None
    ]
    opening = context.opening(plan.turn_id)
    metadata = {} if opening is None else opening.metadata
    if metadata.get("status") is not None or not replies:
        raise _failure(plan, metadata)
    result = result_of(replies[-1], plan.agent.output)
    turn = context.turn
    if turn is None or turn.id != plan.turn_id:
        turn = Turn(plan.turn_id, "completed", usage=result.usage)
    return Outcome(turn, result)


def result_of(message: Message, output: OutputSchema, raw: Any = None) -> Result[Any]:
    """Return the result of a stored reply. `raw` is the provider's response, if it was just received."""
    facts = ReplyFacts.of(message)
    return Result(
        text=message.text,
        thinking=message.thinking,
        usage=facts.usage,
        cost=facts.cost,
        model=facts.model,
        finish_reason=facts.finish_reason,
        duration=facts.duration,
        raw=raw,
        schema=output,
    )


def _failure(plan: Plan, metadata: dict[str, Any]) -> TurnFailed:
    try:
        error = msgspec.convert(metadata.get("error", NO_REPLY), TurnError)
    except msgspec.ValidationError:
        error = NO_REPLY
    return ERRORS.get(error.type, TurnFailed)(
        f"the turn of this idempotency key ended as {metadata.get('status', 'interrupted')}: {error.message}",
        where=f"{plan.agent.qualified_name} idempotency_key",
        why="later turns exist, so it cannot be run again; the model was not called",
        fix="send the message again with a new key",
    )
