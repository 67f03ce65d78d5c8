"""The second half of a turn, under the claim: ask, run the tools that the model asks for, ask again, until
there is an output that fits; then write how it ended."""

from __future__ import annotations

import logging
from collections.abc import Generator
from copy import deepcopy
from functools import partial
from typing import Any

import msgspec

from agentsession._json_values import storable_text
from agentsession._prompt import VariableMissing
from agentsession._schema import SchemaMismatch
from agentsession._turn import finish, hooks
from agentsession._turn.active_turn import ActiveTurn
from agentsession._turn.effects import (
    CallModel,
    Change,
    ClaimLost,
    Effect,
    Emit,
    Hook,
    HookContext,
    Interrupted,
    Machine,
    ProviderCallFailed,
    Save,
)
from agentsession._turn.guarded_write import found_gone, write_as_holder
from agentsession._turn.model_io import Prompt, PromptMessage, Reply
from agentsession._turn.model_texts import SILENT
from agentsession._turn.prompt_messages import (
    build_prompt,
    check_chosen,
    select_visible,
    select_window,
    to_prompt_messages,
)
from agentsession._turn.tool_messages import results_of
from agentsession._turn.tool_step import StepEnd, end_turn, keeping_results, run_step, store_step
from agentsession.context import Attempt, output_invalid
from agentsession.errors import (
    AgentSessionError,
    BudgetExceeded,
    HookFailed,
    MaxIterations,
    ProviderCallError,
    ProviderFailed,
    TurnFailed,
    words,
)
from agentsession.events import OutputRetry, TurnStarted


def answer(active: ActiveTurn) -> Machine:
    """Bring the turn to its end, and store it however that is."""
    yield Emit(TurnStarted(active.turn.id))
    try:
        return (yield from _answered(active))
    except Interrupted as stop:
        yield from finish.left(active, stop)
        raise
    except AgentSessionError as error:
        if not isinstance(error, TurnFailed):
            raise
        failure = error
    except Exception as error:
        failure = TurnFailed(storable_text(f"{type(error).__name__}: {words(error)}"))
        failure.__cause__ = error
    try:
        told = yield from _seen_by_its_hook(active, failure)
    except Interrupted:
        yield from finish.failed(active, failure)
        raise
    yield from finish.failed(active, told)
    raise told from told.__cause__ or failure.__cause__


def _answered(active: ActiveTurn) -> Machine:
    if active.said:
        end = yield from run_step(active, is_new=False)
        if end is not None:
            return (yield from end_turn(active, end))
    yield from _rendered(active)
    past = yield from _past(active)
    tried: Prompt = ()
    left = active.plan.agent.output_retries
    while True:
        reply = yield from _asked(active, (*past, *_steps(active), *tried))
        end = yield from _carried_out(active, reply)
        if end is not None:
            return (yield from end_turn(active, end))
        if reply.calls:
            tried = ()
            continue
        told = yield from hooks.hooked(active, "after_call", reply, hooks.a_reply)
        reply = reply if told is reply else told.storable()
        mismatch = yield from mismatch_of(active, reply, left)
        if mismatch is None:
            return (yield from finish.completed(active, reply))
        tried = (*tried, *repair(reply, mismatch))
        left -= 1


def _rendered(active: ActiveTurn) -> Generator[Effect, Any, None]:
    """The system message, once the hooks have had their say."""
    if active.plan.agent.hooks is None:
        return
    args = yield from hooks.hooked(active, "before_call", deepcopy(active.args or {}), hooks.a_map)
    if active.args is not None and args != active.args:
        try:
            active.system = active.plan.agent.template.render(args)
        except VariableMissing as missing:
            raise HookFailed(f"before_call left {{{{ {missing.name} }}}} without a value") from None
    active.system = yield from hooks.hooked(active, "after_render", active.system, hooks.a_text)


def _past(active: ActiveTurn) -> Generator[Effect, Any, Prompt]:
    """The model's view of the history up to the words of this turn, or of what `history` leaves of it."""
    now = active.context.position(active.opening.id)
    messages = active.context.messages[: now + 1]
    chosen, history, results = select_visible(messages), active.plan.history, None
    if active.plan.history_turns is not None:
        chosen = select_visible(select_window(messages, active.turns, active.plan.history_turns))
    elif history is not None:
        known = tuple(message for message in chosen if message.role != "system")
        check = partial(check_chosen, opening=active.opening)
        chosen = yield from hooks.called("history", Hook(history, known), check)
        results = results_of(messages)
    return build_prompt(chosen, active.system, active.plan.agent.input, active.client, results)


def _steps(active: ActiveTurn) -> Prompt:
    """What the model asked for in this turn, and what came of it."""
    said = active.said
    return tuple(to_prompt_messages(said, active.plan.agent.input, active.client)) if said else ()


def _asked(active: ActiveTurn, shown: Prompt) -> Generator[Effect, Any, Reply]:
    """The model's reply, in a form that can be stored."""
    active.iteration += 1
    yield from hooks.hooked(active, "on_iteration_start", active.iteration, hooks.anything)
    shown = yield from hooks.hooked(active, "prepare_messages", shown, hooks.messages)
    answered: Reply | ProviderCallFailed
    try:
        answered = yield CallModel(shown, active.plan.client)
    except ClaimLost:
        raise (yield from found_gone(active.turn.id)) from None
    except ProviderCallFailed as broken:
        answered = broken.with_traceback(None)  # its frames are those that run here
    if isinstance(answered, ProviderCallFailed):  # raised above, it would have the raw error as `__context__`
        cause = answered.__cause__ or answered
        active.received = answered.received
        raise _failed(cause) from cause.__cause__ or cause
    active.reply = reply = answered.storable()
    return reply


def _carried_out(active: ActiveTurn, reply: Reply) -> Generator[Effect, Any, StepEnd | None]:
    """Run the calls of a reply, unless it exceeds a limit of the turn. Returns how they end the turn.

    However that goes, `on_iteration_complete` is called once, before the end of the turn is stored.
    """
    hook = hooks.hooked(active, "on_iteration_complete", reply, hooks.anything)
    end: StepEnd | None = None
    try:
        yield from _refuse_beyond_limits(active, reply)
        if reply.calls:
            yield from store_step(active, reply)
            end = yield from run_step(active, is_new=True)
    except Exception as error:
        if isinstance(error, AgentSessionError) and not isinstance(error, TurnFailed):
            raise
        try:
            yield from hook
        except HookFailed as another:
            raise _both(another, error) from error
        raise
    yield from keeping_results(active, () if end is None else end.halting, hook)
    return end


def _refuse_beyond_limits(active: ActiveTurn, reply: Reply) -> Generator[Effect, Any, None]:
    """Raise `BudgetExceeded` or `MaxIterations` for a reply that exceeds a limit of the turn."""
    yield from count_tokens(active, reply)
    if reply.calls and active.iteration >= active.plan.agent.max_iterations:
        raise MaxIterations(
            f"the model still asked for tools ({', '.join(call.name for call in reply.calls)}) in its "
            f"reply number {active.iteration}, the last that max_iterations allows"
        )


def _failed(cause: BaseException) -> ProviderFailed:
    failed = ProviderFailed(storable_text(words(cause)))
    if isinstance(cause, ProviderCallError):
        failed.kind, failed.fix = cause.kind, cause.fix
    return failed


def _seen_by_its_hook(active: ActiveTurn, failure: TurnFailed) -> Generator[Effect, Any, TurnFailed]:
    """The failure, or what `on_error` makes of it."""
    try:
        return (yield from hooks.hooked(active, "on_error", failure, hooks.a_failure))
    except HookFailed as another:
        both = _both(another, failure)
        both.__cause__ = failure
        return both


def _both(another: HookFailed, failure: Exception) -> HookFailed:
    """A hook failed when the turn had failed already."""
    found = failure.found if isinstance(failure, AgentSessionError) else words(failure)
    return HookFailed(storable_text(f"{another.found}, when told of {type(failure).__name__}: {found}"))


WARNED = 0.8
"""The part of the budget from which on there is a warning."""

_log = logging.getLogger("agentsession")


def count_tokens(active: ActiveTurn, reply: Reply) -> Generator[Effect, Any, None]:
    """Count what the turn has taken with this reply; raises `BudgetExceeded`, or lets it be logged once."""
    agent = active.plan.agent
    if agent.token_budget is None:
        return
    usage = active.facts().usage
    taken = usage.input_tokens + usage.output_tokens
    before = taken - reply.usage.input_tokens - reply.usage.output_tokens
    found = f"the turn has taken {taken:,} tokens, its budget is {agent.token_budget:,}"
    if agent.on_budget == "halt" and taken > agent.token_budget:
        raise BudgetExceeded(found)
    limit = WARNED * agent.token_budget
    if agent.on_budget == "warn" and before < limit <= taken:
        yield Hook(_warn, (agent.place, found), HookContext(active.turn.id, active.client, active.iteration))


def _warn(context: HookContext, value: tuple[str, str]) -> None:
    """Log that the budget is nearly used up. The driver has put the session into the context."""
    place, found = value
    extra = {"model": place, "session": context.session_id, "turn": context.turn}
    _log.warning("[%s %s turn %s] %s", place, context.session_id, context.turn, found, extra=extra)


def mismatch_of(active: ActiveTurn, reply: Reply, left: int) -> Generator[Effect, Any, SchemaMismatch | None]:
    """Why the reply does not fit, noted for the next question; None if it fits. Raises `OutputInvalid` where
    no further question is `left`."""
    output = active.plan.agent.output
    try:
        output.parse(reply.text)
    except SchemaMismatch as error:
        mismatch = _with_reason(error, reply)
        active.attempts, active.reply = (*active.attempts, _attempt(reply, mismatch)), None
        if left == 0:
            raise output_invalid(reply.text, output.type, mismatch) from error
        active.turn = msgspec.structs.replace(active.turn, usage=active.facts().usage)
        change = Change(active.turn, metadata=active.metadata())
        yield from write_as_holder(Save(change, active.claim, active.plan.lease))
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


def repair(reply: Reply, mismatch: SchemaMismatch) -> Prompt:
    """What the model is shown behind a reply that does not fit."""
    said = reply.text if reply.text.strip() else SILENT
    ask = f"That reply does not fit the required format: {mismatch}. Answer again, in that format only."
    return PromptMessage("assistant", said), PromptMessage("user", ask)
