"""A step of the tool loop: the model's calls are stored, run or refused, and so are their results.

What is stored decides what may be run: a call whose result is there never runs again, and one that may have
been running when its process died runs again only if its tool says that this does no harm.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from agentsession._json_values import JsonMap, compact, storable_text
from agentsession._schema import SchemaMismatch
from agentsession._tools.definition import Tool
from agentsession._tools.tool_context import Halt
from agentsession._turn.active_turn import ActiveTurn
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
from agentsession._turn.finish import awaiting, halted
from agentsession._turn.guarded_write import found_gone, write_as_holder
from agentsession._turn.hooks import called, hooked, results_like, true_or_false
from agentsession._turn.model_io import Reply
from agentsession._turn.model_texts import NOT_RUN, REPEATED, UNKNOWN, no_such_tool, rejection, too_large
from agentsession._turn.repeated_calls import with_repeats_marked
from agentsession._turn.tool_messages import (
    StoredCall,
    as_object,
    calls_of,
    is_step,
    open_calls,
    result_messages,
    step_message,
)
from agentsession._turn_state import ApprovalState
from agentsession.context import ReplyFacts
from agentsession.errors import HookFailed, ToolFailed
from agentsession.events import ToolFinished

Verdict: TypeAlias = Run | ToolResult | ApprovalState

FOR_RESULTS = 7 / 8
"""The part of `max_context_bytes` that results may fill: there is room left for what is said of them."""


PER_WRITE = 200
"""Results in one write. A model may ask for more calls than one statement takes parameters."""


def store_step(active: ActiveTurn, reply: Reply) -> Generator[Effect, Any, None]:
    """Store the model's reply with its calls, before any of them runs, and which of them have to be approved,
    or repeat an earlier call: so that a call that was asked for without is never taken for one that has not
    been run."""
    facts = ReplyFacts(reply.model, reply.usage, reply.cost, reply.finish_reason, round(reply.duration, 6))
    id_, step = f"{active.turn.id}:{active.context.count}", sum(map(is_step, active.said))
    message = step_message(id_, active.turn, step, reply, active.client, facts)
    asked = []
    message = with_repeats_marked(message, active.said, active.plan.agent)
    for call in calls_of(message):
        if not call.repeated and (arguments := (yield from _to_be_approved(active, call))) is not None:
            own = as_object(call.arguments)
            text = None if own == arguments else compact(own)
            asked.append(ApprovalState(call.key, call.tool, compact(arguments), own=text))
    turn = msgspec.structs.replace(active.turn, approvals=tuple(asked))
    yield from _saved(active, Change(turn, (message,)))
    active.reply = None


class StepEnd(msgspec.Struct, frozen=True):
    """How a step ends the turn: with `halting` results, which are not stored yet, or, where there are none,
    with calls that wait for an approval."""

    halting: tuple[ToolResult, ...]
    asked: tuple[ApprovalState, ...]


def run_step(active: ActiveTurn, *, is_new: bool) -> Generator[Effect, Any, StepEnd | None]:
    """Run the calls of the latest step that have no result. Returns how the step ends the turn, which
    `end_turn` stores; None where the turn goes on.

    `is_new`: the step was stored just now, so that none of them can have been run before.
    """
    verdicts = [_verdict(active, call, is_new) for call in open_calls(active.said)]
    runs = [verdict for verdict in verdicts if isinstance(verdict, Run)]
    asked = [verdict for verdict in verdicts if isinstance(verdict, ApprovalState)]
    yield from _stored(active, [verdict for verdict in verdicts if isinstance(verdict, ToolResult)])
    ran = yield from _ran(active, runs)
    if halting := _ends(ran):
        return StepEnd(tuple(halting), tuple(asked))
    broken = next((each for each in ran if each.outcome != "completed"), None)
    if broken is not None and active.plan.agent.on_tool_error == "halt":
        raise ToolFailed(f"the tool {broken.tool} failed: {broken.text}") from broken.error
    return StepEnd((), tuple(asked)) if asked else None


def end_turn(active: ActiveTurn, end: StepEnd) -> Machine:
    """Store the end of the turn."""
    if not end.halting:
        return (yield from awaiting(active))
    refused = (ToolResult(each.call, each.tool, "rejected", NOT_RUN) for each in end.asked)
    ended = (*end.halting, *refused)
    outcome = yield from halted(active, ended)
    yield from _told(ended)
    return outcome


def keeping_results(
    active: ActiveTurn, ran: Sequence[ToolResult], work: Generator[Effect, Any, object]
) -> Generator[Effect, Any, None]:
    """Do the work while results that end the turn are not stored. Where it fails or is stopped, they are kept
    as the results of a turn that they do not end."""
    try:
        yield from work
    except HookFailed:
        yield from _keep(active, ran)
        raise
    except Interrupted as stop:
        stop.ran = (*stop.ran, *map(_without_end, _ends(ran)))
        raise


def _keep(active: ActiveTurn, ran: Sequence[ToolResult]) -> Generator[Effect, Any, None]:
    """Store results that would have ended the turn as the results of a turn that they do not end."""
    if kept := [*map(_without_end, _ends(ran))]:
        yield from _saved(active, Change(active.turn, result_messages(active.context, active.turn, kept)))
        yield from _told(kept)


def _to_be_approved(active: ActiveTurn, call: StoredCall) -> Generator[Effect, Any, JsonMap | None]:
    """The arguments of a call that somebody has to be asked about, as its tool would take them."""
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
        if not (yield from called(f"needs_approval of {tool.name}", hook, true_or_false)):
            return None
    if not active.is_stored:
        raise ToolFailed(
            f"the tool {tool.name} needs an approval",
            why="a call without a session has nobody to wait for",
            fix="begin a session with start_session, or leave the tool out",
        )
    return plain


def _verdict(active: ActiveTurn, call: StoredCall, is_new: bool) -> Verdict:
    """What is to become of a call: it is run, has a result already, or somebody has to be asked."""
    if call.repeated:
        return ToolResult(call.key, call.tool, "repeated", REPEATED)
    asked = active.turn.approval_of(call.key)
    if asked is not None and asked.status == "rejected":
        return ToolResult(call.key, call.tool, "rejected", rejection(asked))
    if asked is not None and asked.status == "pending":
        return asked
    tool = active.plan.agent.tool_named(call.tool)
    may_have_run = not is_new and call.key not in active.not_yet_run
    if may_have_run and not _may_run_again(tool, asked):
        return ToolResult(call.key, call.tool, "unknown", UNKNOWN)
    if tool is None:
        return ToolResult(call.key, call.tool, "failed", no_such_tool(active.plan.agent, call.tool))
    try:
        arguments = tool.accept(call.arguments if asked is None or asked.edited is None else asked.edited)
    except SchemaMismatch as mismatch:
        if may_have_run:
            return ToolResult(call.key, call.tool, "unknown", UNKNOWN)
        return ToolResult(call.key, call.tool, "failed", f"The arguments do not fit: {mismatch}")
    return Run(call.key, tool, tool.plain(arguments), arguments)


def _may_run_again(tool: Tool | None, asked: ApprovalState | None) -> bool:
    """Only if its tool says so; one that needs an approval now, and needed none then, has to be asked for
    anew."""
    return tool is not None and tool.idempotent and (asked is not None or tool.needs_approval is not True)


def _ran(active: ActiveTurn, runs: Sequence[Run]) -> Generator[Effect, Any, list[ToolResult]]:
    """Run the calls. Each result is stored as soon as it is there, but one that ends the turn: that is stored
    with the end."""
    ran: list[ToolResult] = []
    begin, failure = tuple(runs), None
    while len(ran) < len(runs):
        try:
            ended: tuple[ToolResult, ...] = yield RunTools(active.turn.id, begin)
        except ClaimLost:
            raise (yield from found_gone(active.turn.id)) from None
        except Interrupted as stop:
            stop.ran = tuple(map(_without_end, (*_settled(active, stop.ran), *_ends(ran))))
            raise
        begin = ()
        settled = [*_settled(active, ended)]
        ran += settled
        try:
            yield from _stored(active, [each for each in settled if each.halt is None])
        except HookFailed as error:
            failure = error
        except Interrupted as stop:
            stop.ran = (*stop.ran, *map(_without_end, _ends(ran)))
            raise
    if failure is not None:
        yield from _keep(active, ran)
        raise failure
    return ran


def _ends(results: Iterable[ToolResult]) -> list[ToolResult]:
    """Those that end the turn."""
    return [each for each in results if each.halt is not None]


def _without_end(result: ToolResult) -> ToolResult:
    """The result of a turn that is not ended by it after all."""
    return msgspec.structs.replace(result, halt=None)


def _settled(active: ActiveTurn, results: Iterable[ToolResult]) -> Iterator[ToolResult]:
    """Each result as it is stored: one that does not fit into the session is an error of its tool."""
    size, most = active.size, active.plan.max_bytes * FOR_RESULTS
    for each in results:
        taken = len(msgspec.json.encode((each.text, each.shown)))
        if active.is_stored and size + taken > most:
            yield _unused(each, too_large(taken))
        else:
            size += taken
            yield each if each.halt is None else _ending(active, each, each.halt)


def _ending(active: ActiveTurn, result: ToolResult, halt: Halt) -> ToolResult:
    """A result that ends the turn has to be an output of the agent: else it is an error of the tool."""
    output = active.plan.agent.output
    try:
        text = storable_text(output.encode(halt.value))
        output.parse(text)
    except SchemaMismatch as mismatch:
        found = f"The tool ended the turn with what is no output of it: {mismatch}"
        return _unused(result, found)
    return msgspec.structs.replace(result, text=text, shown=None)


def _unused(result: ToolResult, found: str) -> ToolResult:
    """The result of a tool that has run, but whose value cannot be used."""
    has_run = result.has_run or result.outcome != "failed"
    return msgspec.structs.replace(
        result, outcome="failed", text=found, shown=None, halt=None, has_run=has_run
    )


def _stored(active: ActiveTurn, results: Sequence[ToolResult]) -> Generator[Effect, Any, None]:
    """Store results, and tell of them. A hook that fails fails the turn, once they are stored."""
    if not results:
        return
    failure, known = None, tuple(results)
    try:
        known = yield from hooked(active, "prepare_tool_results", known, results_like(known))
    except HookFailed as error:
        failure = error
    except Interrupted as stop:
        stop.ran = known
        raise
    for first in range(0, len(known), PER_WRITE):
        part = known[first : first + PER_WRITE]
        yield from _saved(active, Change(active.turn, result_messages(active.context, active.turn, part)))
        yield from _told(part)
    if failure is not None:
        raise failure


def _told(results: Iterable[ToolResult]) -> Generator[Effect, Any, None]:
    for each in results:
        error = "" if each.outcome == "completed" else each.text
        yield Emit(ToolFinished(each.call, each.tool, error, each.outcome))


def _saved(active: ActiveTurn, change: Change) -> Generator[Effect, Any, None]:
    turn = msgspec.structs.replace(change.turn, claim=active.next_claim, usage=active.facts().usage)
    change = msgspec.structs.replace(change, turn=turn)
    yield from write_as_holder(Save(change, active.claim, active.plan.lease))
    active.has_changed(change)
