"""The write that ends a turn: completed, failed, left, or stopped until somebody has approved a call."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import msgspec

from agentsession.errors import LeaseLost, SessionNotFound, StorageFailed, TurnCancelled, TurnFailed
from agentsession.events import ApprovalNeeded
from agentsession.json_values import storable_text
from agentsession.turn.calls import result_messages
from agentsession.turn.effects import Change, Effect, Emit, Finish, Machine, Outcome, ToolResult
from agentsession.turn.ended import result_of
from agentsession.turn.exchange import Delta, Reply
from agentsession.turn.held import Held
from agentsession.turn.thrown import Stopped
from agentsession.turn.unfinished import changed, left_behind, reply_message, told
from agentsession.turn.wording import NOT_PREPARED
from agentsession.turn.written import written_by_the_holder
from agentsession.turn_state import AWAITING, Turn, TurnError

MAX_ERROR = 2_000
"""Characters of an error's message that are stored."""


def completed(held: Held, reply: Reply, results: Sequence[ToolResult] = ()) -> Machine:
    """Store the reply, with what the whole turn has cost, and results that came with it."""
    facts = held.facts(reply)
    turn = held.turn.ended("completed", usage=facts.usage, approvals=())
    ran = result_messages(held.context, held.turn, results) if results else ()
    context = changed(held.context, Change(turn, ran)) if ran else held.context
    said = reply_message(context, turn, reply.text, reply.thinking, msgspec.to_builtins(facts))
    result = result_of(said, held.plan.agent.output, reply.raw)
    metadata = held.metadata() if held.attempts else {}
    change = Change(turn, (*ran, said), metadata)
    try:
        yield from written_by_the_holder(Finish(change, held.claim))
    except (LeaseLost, SessionNotFound, StorageFailed, TurnCancelled) as gone:
        gone.result = result
        raise
    if not held.is_stored:
        held.has_changed(change)
    return Outcome(turn, result)


def halted(held: Held, results: Sequence[ToolResult]) -> Machine:
    """Store what a tool has ended the turn with as its reply, in the same write as the result of the call."""
    text = next(each.text for each in results if each.halt is not None)
    return (yield from completed(held, Reply(text, finish_reason="halt", cost=0.0), results))


def failed(held: Held, failure: TurnFailed) -> Generator[Effect, Any, None]:
    """Store that the turn has failed, with what had come of the reply."""
    error = TurnError(type(failure).__name__, storable_text(str(failure.found)[:MAX_ERROR]))
    yield from written_by_the_holder(_ended(held, "failed", error, held.came))


def left(held: Held, stop: Stopped) -> Generator[Effect, Any, None]:
    """Store that the caller has left, with what had come."""
    error = TurnError(stop.why, "the caller stopped the turn")
    came = stop.received or held.came
    ran = stop.ran
    if hasattr(held.plan.agent.hooks, "prepare_tool_results"):  # what nobody has prepared is not shown
        ran = tuple(each.showing(NOT_PREPARED) for each in ran)
    yield from written_by_the_holder(_ended(held, "interrupted", error, came, ran))


def awaiting(held: Held) -> Machine:
    """Store that the turn waits for its approvals, and end the claim."""
    turn = held.turn.ended(AWAITING, usage=held.facts().usage)
    yield from written_by_the_holder(Finish(Change(turn), held.claim, held.plan.agent.approval_timeout))
    yield from still_needed(turn)
    return Outcome(turn)


def still_needed(turn: Turn) -> Generator[Effect, Any, None]:
    """Tell of the approvals that a turn waits for."""
    for asked in turn.awaited(-math.inf):
        yield Emit(ApprovalNeeded(asked.call, asked.tool, asked.given))


def _ended(
    held: Held, status: str, error: TurnError, received: Delta, results: tuple[ToolResult, ...] = ()
) -> Finish:
    """The write that ends a turn without a whole reply; the user's message tells why."""
    ran = result_messages(held.context, held.turn, results)
    context = changed(held.context, Change(held.turn, ran, held.metadata()))
    partial = left_behind(context, held.turn, status, received)
    turn = held.turn.ended(status, error=error, usage=held.facts().usage)
    return Finish(Change(turn, (*ran, *partial), told(context, turn, status, error)), held.claim)
