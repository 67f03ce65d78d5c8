"""Approvals of tool calls: a decision, which is one guarded write from any process, and those of a turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import msgspec

from agentsession._turn.effects import Change, Effect, Emit, Loaded, Machine
from agentsession._turn.guarded_write import update_if_unchanged
from agentsession._turn_state import AWAITING, ApprovalState, Turn
from agentsession.errors import NothingToApprove
from agentsession.events import ApprovalNeeded

DecideCall: TypeAlias = "Callable[[ApprovalState], ApprovalState]"
"""Returns the approval with the decision."""


def store_decision(call: str, decide: DecideCall) -> Machine:
    """Store a decision about a call. The same decision may be made twice."""

    def change_of(loaded: Loaded) -> Change | None:
        turn = loaded.context.turn
        before = None if turn is None else turn.approval_of(call)
        if turn is None or before is None:
            raise _nothing("no call of the latest turn with this key waits for an approval")
        after = decide(ApprovalState(call, before.tool, before.arguments, own=before.own))
        if msgspec.structs.replace(before, begun=False) == after:
            return None
        _refuse_decided(turn, before, loaded.now)
        approvals = tuple(after if each.call == call else each for each in turn.approvals)
        return Change(msgspec.structs.replace(turn, approvals=approvals))

    return (yield from update_if_unchanged(change_of))


def emit_pending_approvals(turn: Turn) -> Generator[Effect, Any, None]:
    """Emit an event for each approval that the turn waits for."""
    for approval in turn.pending_approvals(-math.inf):
        yield Emit(ApprovalNeeded(approval.call, approval.tool, approval.parsed_arguments))


def reject_overdue(turn: Turn, now: float) -> tuple[ApprovalState, ...]:
    """Return the approvals of a turn that runs again; overdue ones are rejected."""
    if not turn.is_overdue(now):
        return turn.approvals
    late = "nobody has approved it in time"
    return tuple(
        msgspec.structs.replace(each, status="rejected", reason=late) if each.status == "pending" else each
        for each in turn.approvals
    )


def mark_begun(approvals: tuple[ApprovalState, ...]) -> tuple[ApprovalState, ...]:
    """Return the approvals of a turn that runs again: from now on, the approved calls may have run."""
    return tuple(msgspec.structs.replace(each, begun=True) if each.is_to_run else each for each in approvals)


def _refuse_decided(turn: Turn, approval: ApprovalState, now: float) -> None:
    """Raise `NothingToApprove` unless the call still waits for a decision."""
    if approval.status != "pending":
        by = f" by {approval.by}" if approval.by else ""
        raise _nothing(f"the call of {approval.tool} was {approval.status} before{by}")
    if turn.status != AWAITING:
        raise _nothing(f"the turn of this call is {turn.status}")
    if turn.is_overdue(now):
        raise _nothing(f"the time in which the call of {approval.tool} could be approved is over")


def _nothing(found: str) -> NothingToApprove:
    return NothingToApprove(
        found,
        why="a call is decided once, while its turn waits; nothing was changed",
        fix="read `approvals` anew: it lists the calls that wait",
    )
