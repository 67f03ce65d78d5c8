"""A decision about a call that waits for it: one guarded write, from any process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from agentsession._turn.effects import Change, Loaded, Machine
from agentsession._turn.guarded_write import update_if_unchanged
from agentsession._turn_state import AWAITING, ApprovalState, Turn
from agentsession.errors import NothingToApprove

DecideCall: TypeAlias = "Callable[[ApprovalState], ApprovalState]"


def decide_call(call: str, decision: DecideCall) -> Machine:
    """Note what somebody has decided about a call. The same decision may be made twice."""

    def decided(loaded: Loaded) -> Change | None:
        turn = loaded.context.turn
        asked = None if turn is None else turn.approval_of(call)
        if turn is None or asked is None:
            raise _nothing("no call of the latest turn with this key waits for an approval")
        after = decision(ApprovalState(call, asked.tool, asked.arguments, own=asked.own))
        if msgspec.structs.replace(asked, begun=False) == after:
            return None
        _refuse_decided(turn, asked, loaded.now)
        approvals = tuple(after if each.call == call else each for each in turn.approvals)
        return Change(msgspec.structs.replace(turn, approvals=approvals))

    return (yield from update_if_unchanged(decided))


def _refuse_decided(turn: Turn, asked: ApprovalState, now: float) -> None:
    if asked.status != "pending":
        by = f" by {asked.by}" if asked.by else ""
        raise _nothing(f"the call of {asked.tool} was {asked.status} before{by}")
    if turn.status != AWAITING:
        raise _nothing(f"the turn of this call is {turn.status}")
    if turn.is_overdue(now):
        raise _nothing(f"the time in which the call of {asked.tool} could be approved is over")


def _nothing(found: str) -> NothingToApprove:
    return NothingToApprove(
        found,
        why="a call is decided once, while its turn waits; nothing was changed",
        fix="read `approvals` anew: it lists the calls that wait",
    )
