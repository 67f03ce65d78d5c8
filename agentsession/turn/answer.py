"""The second half of a turn, under the claim: ask, run the tools that the model asks for, ask again, until
there is an output that fits; then write how it ended."""

from __future__ import annotations

from collections.abc import Generator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from agentsession.context import Attempt, output_invalid
from agentsession.errors import (
    AgentSessionError,
    HookFailed,
    MaxIterations,
    ProviderFailed,
    TurnFailed,
    words,
)
from agentsession.events import OutputRetry, TurnStarted
from agentsession.json_values import storable_text
from agentsession.prompt import VariableMissing
from agentsession.schema import SchemaMismatch
from agentsession.turn import ending, hooks
from agentsession.turn.acting import run_step, store_step
from agentsession.turn.budget import count_tokens
from agentsession.turn.calls import results_of
from agentsession.turn.effects import Ask, Change, Effect, Emit, Hook, Machine, Save
from agentsession.turn.exchange import Reply, Shown, ToolCall, View
from agentsession.turn.held import Held
from agentsession.turn.thrown import ClaimGone, Stopped, Unanswered
from agentsession.turn.view import as_shown, view, visible
from agentsession.turn.window import chosen_messages, in_window
from agentsession.turn.wording import SILENT
from agentsession.turn.written import found_gone, written_by_the_holder


def answer(held: Held) -> Machine:
    """Bring the turn to its end, and store it however that is."""
    yield Emit(TurnStarted(held.turn.id))
    try:
        return (yield from _answered(held))
    except Stopped as stop:
        yield from ending.left(held, stop)
        raise
    except AgentSessionError as error:
        if not isinstance(error, TurnFailed):
            raise
        failure = error
    except Exception as error:
        failure = TurnFailed(storable_text(f"{type(error).__name__}: {words(error)}"))
        failure.__cause__ = error
    try:
        told = yield from _seen_by_its_hook(held, failure)
    except Stopped:
        yield from ending.failed(held, failure)
        raise
    yield from ending.failed(held, told)
    raise told from told.__cause__ or failure.__cause__


def _answered(held: Held) -> Machine:
    if held.said:
        ended = yield from run_step(held, is_new=False)
        if ended is not None:
            return ended
    yield from _rendered(held)
    past = yield from _past(held)
    tried: View = ()
    left = held.plan.agent.output_retries
    while True:
        reply = yield from _asked(held, (*past, *_steps(held), *tried))
        if reply.calls:
            yield from store_step(held, reply)
            ended = yield from run_step(held, is_new=True)
            if ended is not None:
                return ended
            yield from hooks.hooked(held, "on_iteration_complete", reply, hooks.anything)
            tried = ()
            continue
        yield from hooks.hooked(held, "on_iteration_complete", reply, hooks.anything)
        told = yield from hooks.hooked(held, "after_call", reply, hooks.a_reply)
        reply = reply if told is reply else _storable(told)
        mismatch = yield from _mismatch_of(held, reply, left)
        if mismatch is None:
            return (yield from ending.completed(held, reply))
        tried = (*tried, *_repair(reply, mismatch))
        left -= 1


def _mismatch_of(held: Held, reply: Reply, left: int) -> Generator[Effect, Any, SchemaMismatch | None]:
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


def _rendered(held: Held) -> Generator[Effect, Any, None]:
    """The system message, once the hooks have had their say."""
    if held.plan.agent.hooks is None:
        return
    args = yield from hooks.hooked(held, "before_call", deepcopy(held.args or {}), hooks.a_map)
    if held.args is not None and args != held.args:
        try:
            held.system = held.plan.agent.template.render(args)
        except VariableMissing as missing:
            raise HookFailed(f"before_call left {{{{ {missing.name} }}}} without a value") from None
    held.system = yield from hooks.hooked(held, "after_render", held.system, hooks.a_text)


def _past(held: Held) -> Generator[Effect, Any, View]:
    """The model's view of the history up to the words of this turn, or of what `history` leaves of it."""
    now = held.context.position(held.opening.id)
    messages = held.context.messages[: now + 1]
    chosen, history, results = visible(messages), held.plan.history, None
    if isinstance(history, int):
        chosen = visible(in_window(messages, held.turns, history))
    elif history is not None:
        known = tuple(message for message in chosen if message.role != "system")
        check = partial(chosen_messages, opening=held.opening)
        chosen, results = (
            (yield from hooks.called("history", Hook(history, known), check)),
            results_of(messages),
        )
    return view(chosen, held.system, held.plan.agent.input, held.client, results)


def _steps(held: Held) -> View:
    """What the model asked for in this turn, and what came of it."""
    said = held.said
    return tuple(as_shown(said, held.plan.agent.input, held.client)) if said else ()


def _asked(held: Held, shown: View) -> Generator[Effect, Any, Reply]:
    """The model's reply, in a form that can be stored."""
    held.iteration += 1
    yield from hooks.hooked(held, "on_iteration_start", held.iteration, hooks.anything)
    shown = yield from hooks.hooked(held, "prepare_messages", shown, hooks.messages)
    try:
        reply: Reply = yield Ask(shown, held.plan.client)
    except ClaimGone:
        raise (yield from found_gone(held.turn.id)) from None
    except Unanswered as broken:
        cause = broken.__cause__ or broken
        held.received = broken.received
        raise ProviderFailed(storable_text(words(cause))) from cause.__cause__ or cause
    held.reply = reply = _storable(reply)
    yield from count_tokens(held, reply)
    if reply.calls and held.iteration >= held.plan.agent.max_iterations:
        raise MaxIterations(
            f"the model still asked for tools ({', '.join(call.name for call in reply.calls)}) in its "
            f"reply number {held.iteration}, the last that max_iterations allows"
        )
    return reply


def _seen_by_its_hook(held: Held, failure: TurnFailed) -> Generator[Effect, Any, TurnFailed]:
    """The failure, or what `on_error` makes of it."""
    try:
        return (yield from hooks.hooked(held, "on_error", failure, hooks.a_failure))
    except HookFailed as another:
        both = HookFailed(f"{another.found}, when told of {type(failure).__name__}: {failure.found}")
        both.__cause__ = failure
        return both


def _storable(reply: Reply) -> Reply:
    said = (reply.text, reply.thinking, reply.model, reply.finish_reason, reply.opaque)
    stored = tuple(map(storable_text, said))
    calls = tuple(ToolCall(storable_text(call.name), storable_text(call.arguments)) for call in reply.calls)
    if stored == said and calls == reply.calls:
        return reply
    text, thinking, model, finish_reason, opaque = stored
    return replace(
        reply,
        text=text,
        thinking=thinking,
        model=model,
        finish_reason=finish_reason,
        opaque=opaque,
        calls=calls,
    )


def _attempt(reply: Reply, mismatch: SchemaMismatch) -> Attempt:
    return Attempt(
        reply.text, storable_text(str(mismatch)), reply.usage, reply.cost, round(reply.duration, 6)
    )


def _with_reason(mismatch: SchemaMismatch, reply: Reply) -> SchemaMismatch:
    """The mismatch, and why the model stopped where that may be its cause (length, content_filter, …)."""
    if reply.finish_reason in ("", "stop"):
        return mismatch
    return SchemaMismatch(f"{mismatch} (finish reason: {reply.finish_reason})")


def _repair(reply: Reply, mismatch: SchemaMismatch) -> View:
    said = reply.text if reply.text.strip() else SILENT
    ask = f"That reply does not fit the required format: {mismatch}. Answer again, in that format only."
    return Shown("assistant", said), Shown("user", ask)
