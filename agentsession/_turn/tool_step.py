"""A step of the tool loop: store the model's calls, run or refuse them, and store their results.

A call runs at most once, unless its tool is idempotent. The step is stored before its calls run, and nothing
is stored between the two: so a call without a result may have been running when its process died. It runs
again only if its tool is `idempotent`. Otherwise its result says that it is not known whether it ran. A call
whose result is stored never runs again. A call that was approved has not run while its turn waits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from agentsession._json_values import JsonMap, compact
from agentsession._schema import SchemaMismatch
from agentsession._tools.definition import Tool
from agentsession._turn.active_turn import ActiveTurn, storable_results
from agentsession._turn.effects import (
    Change,
    ClaimLost,
    Effect,
    Emit,
    Hook,
    Interrupted,
    Machine,
    Run,
    RunTools,
    Save,
    ToolResult,
)
from agentsession._turn.finish import await_approvals, halt_turn
from agentsession._turn.guarded_write import load_claim_error, write_as_holder
from agentsession._turn.hooks import bool_value, call_function, run_hook, same_results
from agentsession._turn.model_io import NOT_RUN, REPEATED, UNKNOWN, Reply, no_such_tool, rejection
from agentsession._turn.tool_messages import (
    StoredCall,
    as_object,
    calls_of,
    is_step,
    mark_repeats,
    open_calls,
    result_messages,
    step_message,
)
from agentsession._turn_state import ApprovalState
from agentsession.context import ReplyFacts
from agentsession.errors import HookFailed, ToolFailed
from agentsession.events import ToolFinished

Verdict: TypeAlias = Run | ToolResult | ApprovalState
"""What happens to a call: it runs, it has a result already, or it waits for an approval."""

PER_WRITE = 200
"""The number of results in one write. A step may have more calls than one statement takes parameters."""


class StepEnd(msgspec.Struct, frozen=True):
    """How a step ends the turn: with `halting` results that are not stored yet, or, if there are none, with
    calls that wait for an approval."""

    halting: tuple[ToolResult, ...]
    approvals: tuple[ApprovalState, ...]


def store_step(active: ActiveTurn, reply: Reply) -> Generator[Effect, Any, None]:
    """Store the model's reply with its calls, before any of them runs.

    The same write stores which calls need an approval, and which repeat an earlier call. So a call without an
    approval may have run, and one whose approval is pending has not, even if the options of its tool change
    later.
    """
    facts = ReplyFacts(reply.model, reply.usage, reply.cost, reply.finish_reason, round(reply.duration, 6))
    id_ = f"{active.turn.id}:{active.context.count}"
    step = sum(map(is_step, active.new_messages))
    message = step_message(id_, active.turn, step, reply, active.client, facts)
    message = mark_repeats(message, active.new_messages, active.plan.agent)
    approvals = []
    for call in calls_of(message):
        if not call.repeated and (arguments := (yield from _to_be_approved(active, call))) is not None:
            own = as_object(call.arguments)
            text = None if own == arguments else compact(own)
            approvals.append(ApprovalState(call.key, call.tool, compact(arguments), own=text))
    turn = msgspec.structs.replace(active.turn, approvals=tuple(approvals))
    yield from _save(active, Change(turn, (message,)))
    active.reply = None


def run_step(active: ActiveTurn, *, is_new: bool) -> Generator[Effect, Any, StepEnd | None]:
    """Run the calls of the latest step that have no result.

    Returns how the step ends the turn, for `end_turn` to store, or None if the turn goes on. `is_new` is set
    if the step was stored just now, so that none of its calls can have run before.
    """
    verdicts = [_verdict(active, call, is_new) for call in open_calls(active.new_messages)]
    runs = [verdict for verdict in verdicts if isinstance(verdict, Run)]
    approvals = tuple(verdict for verdict in verdicts if isinstance(verdict, ApprovalState))
    yield from _store(active, [verdict for verdict in verdicts if isinstance(verdict, ToolResult)])
    ran = yield from _run(active, runs)
    if halting := _halting(ran):
        return StepEnd(tuple(halting), approvals)
    broken = next((each for each in ran if each.outcome != "completed"), None)
    if broken is not None and active.plan.agent.on_tool_error == "halt":
        raise ToolFailed(f"the tool {broken.tool} failed: {broken.text}") from broken.error
    return StepEnd((), approvals) if approvals else None


def end_turn(active: ActiveTurn, end: StepEnd) -> Machine:
    """Store the end of the turn."""
    if not end.halting:
        return (yield from await_approvals(active))
    refused = (ToolResult(each.call, each.tool, "rejected", NOT_RUN) for each in end.approvals)
    results = (*end.halting, *refused)
    outcome = yield from halt_turn(active, results)
    yield from _emit_finished(results)
    return outcome


def keeping_results(
    active: ActiveTurn, ran: Sequence[ToolResult], work: Generator[Effect, Any, object]
) -> Generator[Effect, Any, None]:
    """Do the work while halting results are not stored.

    If the work fails or is interrupted, they are stored as results that do not end the turn.
    """
    try:
        yield from work
    except HookFailed:
        yield from _keep(active, ran)
        raise
    except Interrupted as interruption:
        interruption.ran = (*interruption.ran, *map(_without_halt, _halting(ran)))
        raise


def _keep(active: ActiveTurn, ran: Sequence[ToolResult]) -> Generator[Effect, Any, None]:
    """Store the halting results as results that do not end the turn."""
    if kept := [*map(_without_halt, _halting(ran))]:
        yield from _save(active, Change(active.turn, result_messages(active.context, active.turn, kept)))
        yield from _emit_finished(kept)


def _to_be_approved(active: ActiveTurn, call: StoredCall) -> Generator[Effect, Any, JsonMap | None]:
    """Return the arguments of a call that needs an approval, as its tool takes them."""
    tool = active.plan.agent.tool_named(call.tool)
    if tool is None or not tool.needs_approval:
        return None
    try:
        arguments = tool.accept(call.arguments)
    except SchemaMismatch:
        return None
    plain = tool.plain(arguments)
    if callable(tool.needs_approval):
        hook = Hook(tool.needs_approval, arguments)
        if not (yield from call_function(f"needs_approval of {tool.name}", hook, bool_value)):
            return None
    if not active.is_stored:
        raise ToolFailed(
            f"the tool {tool.name} needs an approval",
            why="a call without a session cannot wait for a decision",
            fix="begin a session with start_session, or leave the tool out",
        )
    return plain


def _verdict(active: ActiveTurn, call: StoredCall, is_new: bool) -> Verdict:
    """Return what happens to a call."""
    if call.repeated:
        return ToolResult(call.key, call.tool, "repeated", REPEATED)
    approval = active.turn.approval_of(call.key)
    if approval is not None and approval.status == "rejected":
        return ToolResult(call.key, call.tool, "rejected", rejection(approval))
    if approval is not None and approval.status == "pending":
        return approval
    tool = active.plan.agent.tool_named(call.tool)
    may_have_run = not is_new and call.key not in active.not_yet_run
    if may_have_run and not _may_run_again(tool, approval):
        return ToolResult(call.key, call.tool, "unknown", UNKNOWN)
    if tool is None:
        return ToolResult(call.key, call.tool, "failed", no_such_tool(active.plan.agent, call.tool))
    edited = None if approval is None else approval.edited
    try:
        arguments = tool.accept(call.arguments if edited is None else edited)
    except SchemaMismatch as mismatch:
        if may_have_run:
            return ToolResult(call.key, call.tool, "unknown", UNKNOWN)
        return ToolResult(call.key, call.tool, "failed", f"The arguments do not fit: {mismatch}")
    return Run(call.key, tool, tool.plain(arguments), arguments)


def _may_run_again(tool: Tool | None, approval: ApprovalState | None) -> bool:
    """Return whether the tool is idempotent. A call without an approval does not run again if its tool has
    needed one since."""
    if tool is None or not tool.idempotent:
        return False
    return approval is not None or tool.needs_approval is not True


def _run(active: ActiveTurn, runs: Sequence[Run]) -> Generator[Effect, Any, list[ToolResult]]:
    """Run the calls. Store each result as soon as the call has ended, except the halting ones, which are
    stored together with the end of the turn."""
    ran: list[ToolResult] = []
    begin, failure = tuple(runs), None
    while len(ran) < len(runs):
        try:
            ended: tuple[ToolResult, ...] = yield RunTools(active.turn.id, begin)
        except ClaimLost:
            raise (yield from load_claim_error(active.turn.id)) from None
        except Interrupted as interruption:
            ended = (*storable_results(active, interruption.ran), *_halting(ran))
            interruption.ran = tuple(map(_without_halt, ended))
            raise
        begin = ()
        results = [*storable_results(active, ended)]
        ran += results
        try:
            yield from _store(active, [each for each in results if each.halt is None])
        except HookFailed as error:
            failure = error
        except Interrupted as interruption:
            interruption.ran = (*interruption.ran, *map(_without_halt, _halting(ran)))
            raise
    if failure is not None:
        yield from _keep(active, ran)
        raise failure
    return ran


def _halting(results: Iterable[ToolResult]) -> list[ToolResult]:
    """Return the results that end the turn."""
    return [each for each in results if each.halt is not None]


def _without_halt(result: ToolResult) -> ToolResult:
    return msgspec.structs.replace(result, halt=None)


def _store(active: ActiveTurn, results: Sequence[ToolResult]) -> Generator[Effect, Any, None]:
    """Store results and emit their events. A hook that fails raises after they are stored."""
    if not results:
        return
    failure, known = None, tuple(results)
    try:
        known = yield from run_hook(active, "prepare_tool_results", known, same_results(known))
    except HookFailed as error:
        failure = error
    except Interrupted as interruption:
        interruption.ran = known
        raise
    for first in range(0, len(known), PER_WRITE):
        part = known[first : first + PER_WRITE]
        yield from _save(active, Change(active.turn, result_messages(active.context, active.turn, part)))
        yield from _emit_finished(part)
    if failure is not None:
        raise failure


def _emit_finished(results: Iterable[ToolResult]) -> Generator[Effect, Any, None]:
    for each in results:
        error = "" if each.outcome == "completed" else each.text
        yield Emit(ToolFinished(each.call, each.tool, error, each.outcome))


def _save(active: ActiveTurn, change: Change) -> Generator[Effect, Any, None]:
    """Store messages under the claim, and continue under the next claim."""
    turn = msgspec.structs.replace(change.turn, claim=active.next_claim, usage=active.facts().usage)
    change = msgspec.structs.replace(change, turn=turn)
    yield from write_as_holder(Save(change, active.claim, active.plan.lease))
    active.has_changed(change)
