"""How a stored turn ended, read from its messages alone: its result, or the error that it raised."""

from __future__ import annotations

from typing import Any

import msgspec

from agentsession._schema import OutputSchema
from agentsession._turn.effects import Outcome
from agentsession._turn.plan import Plan, input_hash
from agentsession._turn_state import Turn, TurnError
from agentsession.context import Context, Message, ReplyFacts, Result
from agentsession.errors import (
    BudgetExceeded,
    HookFailed,
    IdempotencyMismatch,
    MaxIterations,
    OutputInvalid,
    ProviderFailed,
    ToolFailed,
    TurnFailed,
)

ERRORS: dict[str, type[TurnFailed]] = {
    kind.__name__: kind
    for kind in (BudgetExceeded, HookFailed, MaxIterations, OutputInvalid, ProviderFailed, ToolFailed)
}
GOES_ON = TurnError("Unknown", "it has no reply")


def refuse_other_input(plan: Plan, context: Context) -> None:
    """Raise `IdempotencyMismatch` unless the key's turn began with the same input."""
    opening = context.opening(plan.turn_id)
    if opening is not None and opening.metadata.get("input_hash") == input_hash(plan.content):
        return
    raise IdempotencyMismatch(
        f"the idempotency key {plan.turn_id!r} was used before, for another input",
        where=f"{plan.agent.place} idempotency_key",
        why="one key stands for one message; nothing was stored and the model was not asked",
        fix="use a new key for a new message",
    )


def outcome_of(plan: Plan, context: Context) -> Outcome:
    """What the key's turn brought, without asking again; raises the error with which it ended."""
    replies = [
        message
        for message in context.messages
        if message.turn == plan.turn_id
        and message.role == "assistant"
        and message.metadata.get("status") is None
    ]
    opening = context.opening(plan.turn_id)
    told = {} if opening is None else opening.metadata
    if told.get("status") is not None or not replies:
        raise _failure(plan, told)
    result = result_of(replies[-1], plan.agent.output)
    turn = context.turn
    if turn is None or turn.id != plan.turn_id:
        turn = Turn(plan.turn_id, "completed", usage=result.usage)
    return Outcome(turn, result)


def result_of(message: Message, output: OutputSchema, raw: Any = None) -> Result[Any]:
    """The result that a stored reply holds; `raw` is the provider's own, where it has just come."""
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


def _failure(plan: Plan, told: dict[str, Any]) -> TurnFailed:
    try:
        error = msgspec.convert(told.get("error", GOES_ON), TurnError)
    except msgspec.ValidationError:
        error = GOES_ON
    return ERRORS.get(error.type, TurnFailed)(
        f"the turn of this idempotency key ended as {told.get('status', 'interrupted')}: {error.message}",
        where=f"{plan.agent.place} idempotency_key",
        why="other turns have followed, so it cannot be run again; the model was not asked",
        fix="say it again with a new key",
    )
