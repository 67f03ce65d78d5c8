"""The second half of a turn, under the claim: ask until the output fits, then write how it ended."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from agentsession.context import Context, Message, ReplyFacts, Result, Turn, TurnError, Usage, output_invalid
from agentsession.errors import (
    LeaseLost,
    ProviderError,
    ProviderFailed,
    SessionNotFound,
    TurnFailed,
)
from agentsession.json_values import JsonMap, without_lone_surrogates
from agentsession.schema import SchemaMismatch
from agentsession.turn.effects import (
    Ask,
    Change,
    Effect,
    Finish,
    Machine,
    Outcome,
    Reply,
    Save,
    Shown,
    Stopped,
    View,
)
from agentsession.turn.opening import Plan
from agentsession.turn.view import SILENT, view

MAX_ERROR = 2_000
"""Characters of an error's message that are stored."""


@dataclass(frozen=True)
class Held:
    """A turn under its claim: the plan, the context as stored, the turn, the system message."""

    plan: Plan
    context: Context
    turn: Turn
    system: str

    @property
    def claim(self) -> str:
        return self.plan.claim_id


def answer(held: Held) -> Machine:
    """Ask, let an output that does not fit go back with its error, and store the end of the turn."""
    agent = held.plan.agent
    shown = view(held.context, held.system, agent.input)
    attempts: tuple[JsonMap, ...] = ()
    spent = Usage()
    while True:
        reply = yield from _ask(held, shown, attempts, spent)
        spent += reply.usage
        mismatch = _mismatch(held, reply)
        if mismatch is None:
            return (yield from _complete(held, reply, attempts, spent))
        attempts += (_attempt(reply, mismatch),)
        if len(attempts) > agent.output_retries:
            failure = output_invalid(reply.text, agent.output.type, mismatch)
            yield _ended(held, "failed", attempts, spent, failure)
            raise failure from mismatch
        yield Save(Change(held.turn, metadata=_metadata(held, attempts)), held.claim, held.plan.lease)
        shown = (*shown, *_repair(reply, mismatch))


def _ask(
    held: Held, shown: View, attempts: tuple[JsonMap, ...], spent: Usage
) -> Generator[Effect, Any, Reply]:
    try:
        reply: Reply = yield Ask(shown, held.plan.client)
    except Stopped:
        stopped = TurnError("Stopped", "the caller stopped the turn")
        yield _ended(held, "interrupted", attempts, spent, stopped)
        raise
    except Exception as error:
        failure = _provider_failed(error)
        yield _ended(held, "failed", attempts, spent, failure)
        raise failure from (error.__cause__ if isinstance(error, ProviderError) else None) or error
    return replace(
        reply,
        text=without_lone_surrogates(reply.text),
        thinking=without_lone_surrogates(reply.thinking),
    )


def _complete(held: Held, reply: Reply, attempts: tuple[JsonMap, ...], spent: Usage) -> Machine:
    result: Result[Any] = Result(
        text=reply.text,
        thinking=reply.thinking,
        usage=spent,
        cost=_total_cost(reply, attempts),
        model=reply.model,
        finish_reason=reply.finish_reason,
        duration=reply.duration + sum(attempt["duration"] for attempt in attempts),
        raw=reply.raw,
        schema=held.plan.agent.output,
    )
    turn = msgspec.structs.replace(
        held.turn, status="completed", usage=spent, claim=None, since=None, until=None
    )
    change = Change(turn, (_message(held, result),), _metadata(held, attempts) if attempts else {})
    try:
        yield Finish(change, held.claim)
    except (LeaseLost, SessionNotFound) as gone:
        gone.result = result
        raise
    return Outcome(turn, result)


def _message(held: Held, result: Result[Any]) -> Message:
    number = sum(message.turn == held.turn.id for message in held.context.messages)
    content: str | list[JsonMap] = result.text
    if result.thinking:
        content = [{"type": "thinking", "text": result.thinking}, {"type": "text", "text": result.text}]
    facts = ReplyFacts(
        model=result.model,
        usage=result.usage,
        cost=result.cost,
        finish_reason=result.finish_reason,
        duration=round(result.duration, 6),
    )
    metadata: JsonMap = msgspec.to_builtins(facts)
    return Message(f"{held.turn.id}:{number}", held.turn.id, "assistant", content, metadata)


def _ended(
    held: Held, status: str, attempts: tuple[JsonMap, ...], spent: Usage, error: TurnFailed | TurnError
) -> Finish:
    """The write that ends a turn without a reply; the user's message tells why."""
    if isinstance(error, TurnFailed):
        error = TurnError(type(error).__name__, error.found[:MAX_ERROR])
    metadata = _metadata(held, attempts)
    for values in metadata.values():
        values |= {"status": status, "error": msgspec.to_builtins(error)}
    turn = msgspec.structs.replace(
        held.turn, status=status, error=error, usage=spent, claim=None, since=None, until=None
    )
    return Finish(Change(turn, metadata=metadata), held.claim)


def _metadata(held: Held, attempts: tuple[JsonMap, ...]) -> dict[int, JsonMap]:
    """The user message's metadata with the replies that did not fit."""
    position = held.context.opening(held.turn.id)
    if position < 0:
        return {}
    metadata = dict(held.context.messages[position].metadata)
    if attempts:
        metadata["attempts"] = [*metadata.get("attempts", ()), *attempts]
    return {position: metadata}


def _mismatch(held: Held, reply: Reply) -> SchemaMismatch | None:
    try:
        held.plan.agent.output.parse(reply.text)
    except SchemaMismatch as mismatch:
        return mismatch
    return None


def _attempt(reply: Reply, mismatch: SchemaMismatch) -> JsonMap:
    attempt: JsonMap = {"text": reply.text, "error": str(mismatch), "duration": round(reply.duration, 6)}
    return attempt if reply.cost is None else attempt | {"cost": reply.cost}


def _total_cost(reply: Reply, attempts: tuple[JsonMap, ...]) -> float | None:
    if reply.cost is None:
        return None
    return reply.cost + sum(float(attempt.get("cost", 0.0)) for attempt in attempts)


def _repair(reply: Reply, mismatch: SchemaMismatch) -> View:
    said = reply.text if reply.text.strip() else SILENT
    ask = f"That reply does not fit the required format: {mismatch}. Answer again, in that format only."
    return Shown("assistant", said), Shown("user", ask)


def _provider_failed(error: Exception) -> ProviderFailed:
    detail = str(error) if isinstance(error, ProviderError) else f"{type(error).__name__}: {error}"
    return ProviderFailed(detail)
