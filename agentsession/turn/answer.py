"""The second half of a turn, under the claim: ask until the output fits, then write how it ended."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from agentsession.context import (
    Attempt,
    Attempts,
    Context,
    Message,
    ReplyFacts,
    Result,
    Turn,
    TurnError,
    Usage,
    output_invalid,
)
from agentsession.errors import (
    HookFailed,
    LeaseLost,
    ProviderFailed,
    SessionNotFound,
    StorageFailed,
    TurnCancelled,
    TurnFailed,
    words,
)
from agentsession.events import OutputRetry, TurnStarted
from agentsession.json_values import JsonMap, storable_text
from agentsession.schema import SchemaMismatch
from agentsession.turn.effects import (
    NOTHING,
    Ask,
    Change,
    ClaimGone,
    Delta,
    Effect,
    Emit,
    Finish,
    Hook,
    Machine,
    Outcome,
    Reply,
    Save,
    Shown,
    Stopped,
    Unanswered,
    View,
)
from agentsession.turn.opening import Plan
from agentsession.turn.unfinished import changed, left_behind, reply_message, told
from agentsession.turn.view import SILENT, view, visible
from agentsession.turn.window import chosen_messages, in_window
from agentsession.turn.written import found_gone, written_by_the_holder

MAX_ERROR = 2_000
"""Characters of an error's message that are stored."""


@dataclass(frozen=True)
class Held:
    """A turn under its claim: the plan, the context as stored, the turn with its opening message, the system
    message, and how many turns there are."""

    plan: Plan
    context: Context
    turn: Turn
    opening: Message
    system: str
    turns: int = 1

    @property
    def claim(self) -> str:
        return self.plan.claim_id

    def metadata(self, attempts: Attempts) -> dict[str, JsonMap]:
        """The user message's metadata with the replies that did not fit."""
        values = dict(self.opening.metadata)
        if attempts:
            values["attempts"] = msgspec.to_builtins(list(attempts))
        return {self.opening.id: values}


def answer(held: Held) -> Machine:
    """Ask, let an output that does not fit go back with its error, and store the end of the turn."""
    output = held.plan.agent.output
    attempts = _earlier(held)
    yield Emit(TurnStarted(held.turn.id))
    shown = yield from _shown(held, attempts)
    left = held.plan.agent.output_retries
    while True:
        reply = yield from _ask(held, shown, attempts)
        try:
            output.parse(reply.text)
        except SchemaMismatch as error:
            mismatch = _with_reason(error, reply)
            attempts = (*attempts, _attempt(reply, mismatch))
            if left == 0:
                failure = output_invalid(reply.text, output.type, mismatch)
                yield from written_by_the_holder(_ended(held, "failed", attempts, failure))
                raise failure from error
            change = Change(held.turn, metadata=held.metadata(attempts))
            yield from written_by_the_holder(Save(change, held.claim, held.plan.lease))
            yield Emit(OutputRetry(str(mismatch)))
            shown = (*shown, *_repair(reply, mismatch))
            left -= 1
        else:
            return (yield from _complete(held, reply, attempts))


def _shown(held: Held, attempts: Attempts) -> Generator[Effect, Any, View]:
    """The model's view of the history, or of what the `history` option leaves of it."""
    messages, history = visible(held.context.messages), held.plan.history
    if isinstance(history, int):
        messages = visible(in_window(held.context.messages, held.turns, history))
    elif history is not None:
        try:
            chosen = yield Hook(history, tuple(message for message in messages if message.role != "system"))
            messages = chosen_messages(chosen, held.opening)
        except Stopped as stop:
            yield from written_by_the_holder(_left(held, attempts, stop))
            raise
        except Exception as error:
            failure = HookFailed(storable_text(f"history raised {type(error).__name__}: {words(error)}"))
            yield from written_by_the_holder(_ended(held, "failed", attempts, failure))
            raise failure from error
    return view(messages, held.system, held.plan.agent.input)


def _ask(held: Held, shown: View, attempts: Attempts) -> Generator[Effect, Any, Reply]:
    try:
        reply: Reply = yield Ask(shown, held.plan.client)
    except Stopped as stop:
        yield from written_by_the_holder(_left(held, attempts, stop))
        raise
    except ClaimGone:
        raise (yield from found_gone(held.turn.id)) from None
    except Unanswered as broken:
        cause = broken.__cause__ or broken
        failure = ProviderFailed(storable_text(words(cause)))
        yield from written_by_the_holder(_ended(held, "failed", attempts, failure, broken.received))
        raise failure from cause.__cause__ or cause
    said = (reply.text, reply.thinking, reply.model, reply.finish_reason)
    text, thinking, model, finish_reason = stored = tuple(map(storable_text, said))
    if stored == said:
        return reply
    return replace(reply, text=text, thinking=thinking, model=model, finish_reason=finish_reason)


def _complete(held: Held, reply: Reply, attempts: Attempts) -> Machine:
    costs = [reply.cost, *(attempt.cost for attempt in attempts)]
    known = [cost for cost in costs if cost is not None]
    result: Result[Any] = Result(
        text=reply.text,
        thinking=reply.thinking,
        usage=_spent(attempts) + reply.usage if attempts else reply.usage,
        cost=sum(known) if len(known) == len(costs) else None,
        model=reply.model,
        finish_reason=reply.finish_reason,
        duration=round(reply.duration + sum(attempt.duration for attempt in attempts), 6),
        raw=reply.raw,
        schema=held.plan.agent.output,
    )
    turn = held.turn.ended("completed", usage=result.usage)
    metadata = held.metadata(attempts) if attempts else {}
    try:
        finish = Finish(Change(turn, (_message(held, result),), metadata), held.claim)
        yield from written_by_the_holder(finish)
    except (LeaseLost, SessionNotFound, StorageFailed, TurnCancelled) as gone:
        gone.result = result
        raise
    return Outcome(turn, result)


def _message(held: Held, result: Result[Any]) -> Message:
    facts = ReplyFacts(
        model=result.model,
        usage=result.usage,
        cost=result.cost,
        finish_reason=result.finish_reason,
        duration=result.duration,
    )
    metadata: JsonMap = msgspec.to_builtins(facts)
    return reply_message(held.context, held.turn, result.text, result.thinking, metadata)


def _ended(
    held: Held, status: str, attempts: Attempts, error: TurnFailed | TurnError, received: Delta = NOTHING
) -> Finish:
    """The write that ends a turn without a whole reply; the user's message tells why."""
    if isinstance(error, TurnFailed):
        error = TurnError(type(error).__name__, storable_text(error.found[:MAX_ERROR]))
    context = changed(held.context, Change(held.turn, metadata=held.metadata(attempts)))
    partial = left_behind(context, held.turn, status, received)
    turn = held.turn.ended(status, error=error, usage=_spent(attempts))
    return Finish(Change(turn, partial, told(context, turn, status, error)), held.claim)


def _left(held: Held, attempts: Attempts, stop: Stopped) -> Finish:
    error = TurnError(stop.why, "the caller stopped the turn")
    return _ended(held, "interrupted", attempts, error, stop.received)


def _earlier(held: Held) -> Attempts:
    """The attempts of a turn that is run again."""
    try:
        return msgspec.convert(held.opening.metadata.get("attempts", ()), Attempts)
    except msgspec.ValidationError:
        return ()


def _attempt(reply: Reply, mismatch: SchemaMismatch) -> Attempt:
    return Attempt(
        reply.text, storable_text(str(mismatch)), reply.usage, reply.cost, round(reply.duration, 6)
    )


def _spent(attempts: Attempts) -> Usage:
    return sum((attempt.usage for attempt in attempts), start=Usage())


def _with_reason(mismatch: SchemaMismatch, reply: Reply) -> SchemaMismatch:
    """The mismatch, and why the model stopped where that may be its cause (length, content_filter, …)."""
    if reply.finish_reason in ("", "stop"):
        return mismatch
    return SchemaMismatch(f"{mismatch} (finish reason: {reply.finish_reason})")


def _repair(reply: Reply, mismatch: SchemaMismatch) -> View:
    said = reply.text if reply.text.strip() else SILENT
    ask = f"That reply does not fit the required format: {mismatch}. Answer again, in that format only."
    return Shown("assistant", said), Shown("user", ask)
