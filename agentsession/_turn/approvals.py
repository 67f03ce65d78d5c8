"""A decision about a tool call that waits for an approval, as one guarded write from any process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from agentsession._turn.effects import Change, Loaded, Machine
from agentsession._turn.guarded_write import update_if_unchanged
from agentsession._turn_state import AWAITING, ApprovalState, Turn
from agentsession.errors import NothingToApprove

DecideCall: TypeAlias = "Callable[[ApprovalState], ApprovalState]"
"""Returns the approval with the decision."""


def decide_call(call: str, decide: DecideCall) -> Machine:
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
