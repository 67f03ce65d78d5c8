"""The second half of a turn, under the claim: ask, run the tools that the model asks for, ask again, until
there is an output that fits; then write how it ended."""

from __future__ import annotations

from collections.abc import Generator
from copy import deepcopy
from functools import partial
from typing import Any

from agentsession.errors import (
    AgentSessionError,
    HookFailed,
    MaxIterations,
    ProviderError,
    ProviderFailed,
    TurnFailed,
    words,
)
from agentsession.events import TurnStarted
from agentsession.json_values import storable_text
from agentsession.prompt import VariableMissing
from agentsession.turn import ending, hooks
from agentsession.turn.acting import StepEnd, end_turn, keeping_results, run_step, store_step
from agentsession.turn.budget import count_tokens
from agentsession.turn.calls import results_of
from agentsession.turn.effects import Ask, Effect, Emit, Hook, Machine
from agentsession.turn.exchange import Reply, View
from agentsession.turn.held import Held
from agentsession.turn.repeated import mismatch_of, repair
from agentsession.turn.thrown import ClaimGone, Stopped, Unanswered
from agentsession.turn.view import as_shown, view, visible
from agentsession.turn.window import chosen_messages, in_window
from agentsession.turn.written import found_gone


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
        end = yield from run_step(held, is_new=False)
        if end is not None:
            return (yield from end_turn(held, end))
    yield from _rendered(held)
    past = yield from _past(held)
    tried: View = ()
    left = held.plan.agent.output_retries
    while True:
        reply = yield from _asked(held, (*past, *_steps(held), *tried))
        end = yield from _carried_out(held, reply)
        if end is not None:
            return (yield from end_turn(held, end))
        if reply.calls:
            tried = ()
            continue
        told = yield from hooks.hooked(held, "after_call", reply, hooks.a_reply)
        reply = reply if told is reply else told.storable()
        mismatch = yield from mismatch_of(held, reply, left)
        if mismatch is None:
            return (yield from ending.completed(held, reply))
        tried = (*tried, *repair(reply, mismatch))
        left -= 1


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
        chosen = yield from hooks.called("history", Hook(history, known), check)
        results = results_of(messages)
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
    answered: Reply | Unanswered
    try:
        answered = yield Ask(shown, held.plan.client)
    except ClaimGone:
        raise (yield from found_gone(held.turn.id)) from None
    except Unanswered as broken:
        answered = broken.with_traceback(None)  # its frames are those that run here
    if isinstance(answered, Unanswered):  # raised above, it would have the raw error as `__context__`
        cause = answered.__cause__ or answered
        held.received = answered.received
        raise _failed(cause) from cause.__cause__ or cause
    held.reply = reply = answered.storable()
    return reply


def _carried_out(held: Held, reply: Reply) -> Generator[Effect, Any, StepEnd | None]:
    """Run the calls of a reply, unless it exceeds a limit of the turn. Returns how they end the turn.

    However that goes, `on_iteration_complete` is called once, before the end of the turn is stored.
    """
    hook = hooks.hooked(held, "on_iteration_complete", reply, hooks.anything)
    end: StepEnd | None = None
    try:
        yield from _refuse_beyond_limits(held, reply)
        if reply.calls:
            yield from store_step(held, reply)
            end = yield from run_step(held, is_new=True)
    except Exception as error:
        if isinstance(error, AgentSessionError) and not isinstance(error, TurnFailed):
            raise
        try:
            yield from hook
        except HookFailed as another:
            raise _both(another, error) from error
        raise
    yield from keeping_results(held, () if end is None else end.halting, hook)
    return end


def _refuse_beyond_limits(held: Held, reply: Reply) -> Generator[Effect, Any, None]:
    """Raise `BudgetExceeded` or `MaxIterations` for a reply that exceeds a limit of the turn."""
    yield from count_tokens(held, reply)
    if reply.calls and held.iteration >= held.plan.agent.max_iterations:
        raise MaxIterations(
            f"the model still asked for tools ({', '.join(call.name for call in reply.calls)}) in its "
            f"reply number {held.iteration}, the last that max_iterations allows"
        )


def _failed(cause: BaseException) -> ProviderFailed:
    failed = ProviderFailed(storable_text(words(cause)))
    if isinstance(cause, ProviderError):
        failed.kind, failed.fix = cause.kind, cause.fix
    return failed


def _seen_by_its_hook(held: Held, failure: TurnFailed) -> Generator[Effect, Any, TurnFailed]:
    """The failure, or what `on_error` makes of it."""
    try:
        return (yield from hooks.hooked(held, "on_error", failure, hooks.a_failure))
    except HookFailed as another:
        both = _both(another, failure)
        both.__cause__ = failure
        return both


def _both(another: HookFailed, failure: Exception) -> HookFailed:
    """A hook failed when the turn had failed already."""
    found = failure.found if isinstance(failure, AgentSessionError) else words(failure)
    return HookFailed(storable_text(f"{another.found}, when told of {type(failure).__name__}: {found}"))
