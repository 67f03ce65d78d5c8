"""The loop of a turn under its claim: call the model, run its tools, and call it again, until a reply fits.

`run_loop` also stores how the turn ended, even if it failed or was interrupted.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from copy import deepcopy
from functools import partial
from typing import Any

import msgspec

from agentsession._json_values import storable_text
from agentsession._prompt import VariableMissing
from agentsession._safe_errors import error_message
from agentsession._schema import SchemaMismatch
from agentsession._turn import hooks
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
from agentsession._turn.finish import complete_turn, fail_turn, interrupt_turn
from agentsession._turn.guarded_write import load_claim_error, write_as_holder
from agentsession._turn.model_io import Prompt, Reply
from agentsession._turn.prompt_messages import (
    build_prompt,
    check_chosen,
    repair_messages,
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
)
from agentsession.events import OutputRetry, TurnStarted

WARNED = 0.8
"""The part of the token budget from which on a warning is logged."""

_log = logging.getLogger("agentsession")


def run_loop(active: ActiveTurn) -> Machine:
    """Run the turn to its end and store how it ended."""
    yield Emit(TurnStarted(active.turn.id))
    try:
        return (yield from _outcome(active))
    except Interrupted as interruption:
        yield from interrupt_turn(active, interruption)
        raise
    except AgentSessionError as error:
        if not isinstance(error, TurnFailed):
            raise
        failure = error
    except Exception as error:
        failure = TurnFailed(storable_text(f"{type(error).__name__}: {error_message(error)}"))
        failure.__cause__ = error
    try:
        final = yield from _after_its_hook(active, failure)
    except Interrupted:
        yield from fail_turn(active, failure)
        raise
    yield from fail_turn(active, final)
    raise final from final.__cause__ or failure.__cause__


def _outcome(active: ActiveTurn) -> Machine:
    if active.new_messages:  # of an earlier run of the turn
        end = yield from run_step(active, is_new=False)
        if end is not None:
            return (yield from end_turn(active, end))
    yield from _render_instruction(active)
    past = yield from _past_messages(active)
    misfits: Prompt = ()
    retries = active.plan.agent.output_retries
    while True:
        reply = yield from _call_model(active, (*past, *_step_messages(active), *misfits))
        end = yield from _perform_calls(active, reply)
        if end is not None:
            return (yield from end_turn(active, end))
        if reply.calls:
            misfits = ()
            continue
        if active.plan.agent.hooks is not None:
            replaced = yield from hooks.run_hook(active, "after_call", reply, hooks.reply_value)
            reply = reply if replaced is reply else replaced.storable()
        mismatch = yield from _output_mismatch(active, reply, retries)
        if mismatch is None:
            return (yield from complete_turn(active, reply))
        misfits = (*misfits, *repair_messages(reply, mismatch))
        retries -= 1


def _render_instruction(active: ActiveTurn) -> Generator[Effect, Any, None]:
    """Render the system message again with what the hooks return."""
    if active.plan.agent.hooks is None:
        return
    args = yield from hooks.run_hook(active, "before_call", deepcopy(active.args or {}), hooks.dict_value)
    if active.args is not None and args != active.args:
        try:
            active.system = active.plan.agent.template.render(args)
        except VariableMissing as missing:
            raise HookFailed(f"before_call left {{{{ {missing.name} }}}} without a value") from None
    active.system = yield from hooks.run_hook(active, "after_render", active.system, hooks.str_value)


def _past_messages(active: ActiveTurn) -> Generator[Effect, Any, Prompt]:
    """Return the prompt up to the user's message of this turn, limited by `history` or `history_turns`.

    It is built under the claim: if a `history` function fails, the turn fails and the user's message is kept.
    """
    now = active.context.position(active.opening.id)
    messages = active.context.messages[: now + 1]
    chosen, history, results = select_visible(messages), active.plan.history, None
    if active.plan.history_turns is not None:
        chosen = select_visible(select_window(messages, active.turns, active.plan.history_turns))
    elif history is not None:
        known = tuple(message for message in chosen if message.role != "system")
        check = partial(check_chosen, opening=active.opening)
        chosen = yield from hooks.call_function("history", Hook(history, known), check)
        results = results_of(messages)
    return build_prompt(chosen, active.system, active.plan.agent.input, active.client, results)


def _step_messages(active: ActiveTurn) -> Prompt:
    """Return the steps of this turn, with their results, as prompt messages."""
    messages = active.new_messages
    return tuple(to_prompt_messages(messages, active.plan.agent.input, active.client)) if messages else ()


def _call_model(active: ActiveTurn, prompt: Prompt) -> Generator[Effect, Any, Reply]:
    """Return the model's reply in a form that can be stored."""
    active.iteration += 1
    if active.plan.agent.hooks is not None:
        yield from hooks.run_hook(active, "on_iteration_start", active.iteration, hooks.any_value)
        prompt = yield from hooks.run_hook(active, "prepare_messages", prompt, hooks.prompt_value)
    result: Reply | ProviderCallFailed
    try:
        result = yield CallModel(prompt, active.plan.client)
    except ClaimLost:
        raise (yield from load_claim_error(active.turn.id)) from None
    except ProviderCallFailed as failed:
        result = failed.with_traceback(None)  # its frames are those that run here
    if isinstance(result, ProviderCallFailed):  # raised above, it would have the raw error as `__context__`
        cause = result.__cause__ or result
        active.received = result.received
        raise _provider_failed(cause) from cause.__cause__ or cause
    active.reply = reply = result.storable()
    return reply


def _provider_failed(cause: BaseException) -> ProviderFailed:
    failed = ProviderFailed(storable_text(error_message(cause)))
    if isinstance(cause, ProviderCallError):
        failed.kind, failed.fix = cause.kind, cause.fix
    return failed


def _perform_calls(active: ActiveTurn, reply: Reply) -> Generator[Effect, Any, StepEnd | None]:
    """Run the calls of a reply, and the hook after it. Return how the calls end the turn.

    `on_iteration_complete` is called once in any case, and before the end of the turn is stored: a hook that
    fails can still fail the turn.
    """
    if active.plan.agent.hooks is None:
        return (yield from _run_calls(active, reply))
    hook = hooks.run_hook(active, "on_iteration_complete", reply, hooks.any_value)
    try:
        end = yield from _run_calls(active, reply)
    except Exception as error:
        if isinstance(error, AgentSessionError) and not isinstance(error, TurnFailed):
            raise
        try:
            yield from hook
        except HookFailed as hook_error:
            raise _both(hook_error, error) from error
        raise
    yield from keeping_results(active, () if end is None else end.halting, hook)
    return end


def _run_calls(active: ActiveTurn, reply: Reply) -> Generator[Effect, Any, StepEnd | None]:
    """Store and run the calls of a reply. Return how they end the turn.

    Raises `BudgetExceeded` or `MaxIterations` for a reply that exceeds a limit of the turn.
    """
    if active.plan.agent.token_budget is not None:
        yield from _check_budget(active, reply, active.plan.agent.token_budget)
    if not reply.calls:
        return None
    if active.iteration >= active.plan.agent.max_iterations:
        raise MaxIterations(
            f"the model still asked for tools ({', '.join(call.name for call in reply.calls)}) in its "
            f"reply number {active.iteration}, the last that max_iterations allows"
        )
    yield from store_step(active, reply)
    return (yield from run_step(active, is_new=True))


def _check_budget(active: ActiveTurn, reply: Reply, budget: int) -> Generator[Effect, Any, None]:
    """Compare the usage of the turn with its budget: raise `BudgetExceeded`, or log one warning."""
    agent = active.plan.agent
    usage = active.facts().usage
    taken = usage.input_tokens + usage.output_tokens
    before = taken - reply.usage.input_tokens - reply.usage.output_tokens
    found = f"the turn has taken {taken:,} tokens, its budget is {budget:,}"
    if agent.on_budget == "halt" and taken > budget:
        raise BudgetExceeded(found)
    if agent.on_budget == "warn" and before < WARNED * budget <= taken:
        context = HookContext(active.turn.id, active.client, active.iteration)
        yield Hook(_warn, (agent.qualified_name, found), context)


def _warn(context: HookContext, value: tuple[str, str]) -> None:
    """Log that the budget is nearly used up. The driver has set the session of the context."""
    model, found = value
    extra = {"model": model, "session": context.session_id, "turn": context.turn}
    _log.warning("[%s %s turn %s] %s", model, context.session_id, context.turn, found, extra=extra)


def _output_mismatch(
    active: ActiveTurn, reply: Reply, retries: int
) -> Generator[Effect, Any, SchemaMismatch | None]:
    """Return why the reply does not fit the output schema, after storing the attempt; None if it fits.

    Raises `OutputInvalid` if there are no more retries.
    """
    output = active.plan.agent.output
    try:
        output.parse(reply.text)
    except SchemaMismatch as error:
        mismatch = _with_finish_reason(error, reply)
        active.attempts, active.reply = (*active.attempts, _attempt(reply, mismatch)), None
        if retries == 0:
            raise output_invalid(reply.text, output.type, mismatch) from error
        active.turn = msgspec.structs.replace(active.turn, usage=active.facts().usage)
        change = Change(active.turn, metadata=active.metadata())
        yield from write_as_holder(Save(change, active.claim, active.plan.lease))
        yield Emit(OutputRetry(str(mismatch)))
        return mismatch
    return None


def _with_finish_reason(mismatch: SchemaMismatch, reply: Reply) -> SchemaMismatch:
    """Return the mismatch with the finish reason, if that may be its cause (length, content_filter, …)."""
    if reply.finish_reason in ("", "stop"):
        return mismatch
    return SchemaMismatch(f"{mismatch} (finish reason: {reply.finish_reason})")


def _attempt(reply: Reply, mismatch: SchemaMismatch) -> Attempt:
    error = storable_text(str(mismatch))
    return Attempt(reply.text, error, reply.usage, reply.cost, round(reply.duration, 6))


def _after_its_hook(active: ActiveTurn, failure: TurnFailed) -> Generator[Effect, Any, TurnFailed]:
    """Return the failure, or the one that `on_error` returns for it."""
    try:
        return (yield from hooks.run_hook(active, "on_error", failure, hooks.failure_value))
    except HookFailed as hook_error:
        both = _both(hook_error, failure)
        both.__cause__ = failure
        return both


def _both(hook_error: HookFailed, failure: Exception) -> HookFailed:
    """Return the error of a hook that failed after the turn had failed."""
    found = failure.found if isinstance(failure, AgentSessionError) else error_message(failure)
    return HookFailed(storable_text(f"{hook_error.found}, when told of {type(failure).__name__}: {found}"))
