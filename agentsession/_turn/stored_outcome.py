"""The result or the error of a turn that has ended, read from its stored messages."""

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
NO_REPLY = TurnError("Unknown", "it has no reply")


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
