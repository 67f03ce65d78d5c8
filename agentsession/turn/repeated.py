"""A reply that does not fit the output: it is noted, and goes back to the model with the reason."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec

from agentsession.context import Attempt, output_invalid
from agentsession.events import OutputRetry
from agentsession.json_values import storable_text
from agentsession.schema import SchemaMismatch
from agentsession.turn.effects import Change, Effect, Emit, Save
from agentsession.turn.exchange import Reply, Shown, View
from agentsession.turn.held import Held
from agentsession.turn.wording import SILENT
from agentsession.turn.written import written_by_the_holder


def mismatch_of(held: Held, reply: Reply, left: int) -> Generator[Effect, Any, SchemaMismatch | None]:
    """Why the reply does not fit, noted for the next question; None if it fits. Raises `OutputInvalid` where
    no further question is `left`."""
    output = held.plan.agent.output
    try:
        output.parse(reply.text)
    except SchemaMismatch as error:
        mismatch = _with_reason(error, reply)
        held.attempts, held.reply = (*held.attempts, _attempt(reply, mismatch)), None
        if left == 0:
            raise output_invalid(reply.text, output.type, mismatch) from error
        held.turn = msgspec.structs.replace(held.turn, usage=held.facts().usage)
        change = Change(held.turn, metadata=held.metadata())
        yield from written_by_the_holder(Save(change, held.claim, held.plan.lease))
        yield Emit(OutputRetry(str(mismatch)))
        return mismatch
    return None


def _attempt(reply: Reply, mismatch: SchemaMismatch) -> Attempt:
    return Attempt(
        reply.text, storable_text(str(mismatch)), reply.usage, reply.cost, round(reply.duration, 6)
    )


def _with_reason(mismatch: SchemaMismatch, reply: Reply) -> SchemaMismatch:
    """The mismatch, and why the model stopped where that may be its cause (length, content_filter, …)."""
    if reply.finish_reason in ("", "stop"):
        return mismatch
    return SchemaMismatch(f"{mismatch} (finish reason: {reply.finish_reason})")


def repair(reply: Reply, mismatch: SchemaMismatch) -> View:
    """What the model is shown behind a reply that does not fit."""
    said = reply.text if reply.text.strip() else SILENT
    ask = f"That reply does not fit the required format: {mismatch}. Answer again, in that format only."
    return Shown("assistant", said), Shown("user", ask)
