"""A turn, from the first read to the last write, as a pure generator of effects.

No I/O, no clock, no randomness: ids and times come in. An effect's error is thrown in at its `yield`.
There is no `finally` and no `except BaseException` here: dropping the machine is the crash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import msgspec

from agentsession._json_values import JsonMap
from agentsession._turn.active_turn import ActiveTurn
from agentsession._turn.busy import BusyWait, busy
from agentsession._turn.effects import (
    Change,
    Claim,
    Insert,
    Load,
    Loaded,
    Machine,
    Outcome,
    Prepare,
    Ready,
    apply_change,
)
from agentsession._turn.finish import (
    ABANDONED,
    CANCELLED,
    OVERDUE,
    begun,
    closing_change,
    decided,
    reopened,
    still_needed,
)
from agentsession._turn.guarded_write import (
    changed_since,
    ended_by_another,
    update_if_unchanged,
    write_if_unchanged,
)
from agentsession._turn.loop import answer
from agentsession._turn.plan import Plan, grown, opening_messages, pinned_instruction, render, settle_args
from agentsession._turn.stored_outcome import outcome_of, refuse_other_input
from agentsession._turn_state import AWAITING, UNUSED, ApprovalState, Turn, Usage
from agentsession.context import Context, Message, with_schema
from agentsession.errors import NoResult, NothingToResume

Choice: TypeAlias = "Callable[[Plan, Loaded], Turn | Outcome]"


def start(plan: Plan) -> Machine:
    """A new session and its first turn. The lease counts from the host's clock."""
    args, _ = settle_args(plan, Context())
    system = render(plan.agent, args)
    shown = None if plan.pin_instruction else args
    messages = opening_messages(plan, system if plan.pin_instruction else None)
    size = grown(plan, 0, messages, args)
    ready: Ready | None = (yield Prepare(plan.client)) if plan.run else None
    turn = _begun(plan, ready.now if ready else 0.0)
    active = ActiveTurn(
        plan, Context(messages=messages, count=len(messages)), turn, messages[-1], system, shown, size=size
    )
    found = yield from write_if_unchanged(Insert(Change(turn, messages, instruction_args=args)))
    if found is not None and not plan.keyed:
        return _overtaken(plan, turn, found)
    if found is not None:
        return (yield from _repeated(plan, found))
    return (yield from answer(active)) if plan.run else Outcome(turn)


def continue_(plan: Plan) -> Machine:
    """The next turn of a session. A turn whose holder has gone is closed as interrupted."""
    patience = BusyWait(plan.patience)
    loaded: Loaded = yield Load()
    while True:
        context = loaded.context
        if plan.keyed and context.opening(plan.turn_id) is not None:
            return (yield from _repeated(plan, loaded, patience))
        if context.turn is not None and _is_busy(context.turn, loaded.now):
            if context.turn.status == AWAITING:
                raise busy(context.turn, loaded.now, patience.spent)
            loaded = yield from patience.wait(context.turn, loaded.now)
            continue
        system, args, pinned, new_args = _instruction(plan, context)
        ending = _abandoned(context, loaded.now)
        messages = opening_messages(plan, pinned, context.count + len(ending.append))
        size = grown(plan, loaded.size, messages, new_args)
        ready: Ready | None = (yield Prepare(plan.client)) if plan.run else None
        turn = _begun(plan, loaded.now + (ready.took if ready else 0.0))
        change = Change(turn, (*ending.append, *messages), ending.metadata, new_args)
        active = ActiveTurn(
            plan, apply_change(context, change), turn, messages[-1], system, args, loaded.turns + 1
        )
        active.size = size
        found = yield from write_if_unchanged(Claim(loaded.seen, change))
        if found is None:
            return (yield from answer(active)) if plan.run else Outcome(turn)
        if not plan.keyed and found.context.opening(plan.turn_id) is not None:
            return _overtaken(plan, turn, found)
        loaded = changed_since(context, found)


def resume(plan: Plan) -> Machine:
    """The latest turn again, if it is open, failed or interrupted: same id, same words, a new claim."""
    loaded: Loaded = yield Load()
    return (yield from _again(plan, loaded, _latest))


def cancel() -> Machine:
    """End the turn that is open, whoever runs it; one that has ended stays as it is."""
    return (yield from update_if_unchanged(_cancelled))


def single(plan: Plan, context: Context, system: str, args: JsonMap | None) -> Machine:
    """A call without a session: the same questions and answers, whose writes nobody performs."""
    yield Prepare(plan.client)
    opening = context.messages[-1]
    active = ActiveTurn(plan, context, Turn(opening.turn, "running"), opening, system, args, is_stored=False)
    outcome = yield from answer(active)
    if outcome.result is None:
        return outcome
    result = replace(outcome.result, context=_conversation(active, system))
    return msgspec.structs.replace(outcome, result=result)


def _conversation(active: ActiveTurn, system: str) -> Context:
    """What was said, with the instruction at the beginning where it was rendered for this call."""
    messages = with_schema(active.context.messages, active.plan.agent.input)
    if not any(message.role == "system" for message in messages):
        messages = (Message("0:0", "0", "system", system), *messages)
    return msgspec.structs.replace(active.context, messages=messages, count=len(messages))


def _cancelled(loaded: Loaded) -> Change | None:
    turn = loaded.context.turn
    if turn is None:
        raise NoResult(
            "the session has no turn yet", why="there is nothing to cancel", fix="say something first"
        )
    return closing_change(loaded.context, turn, CANCELLED) if turn.is_open else None


def _repeated(plan: Plan, loaded: Loaded, patience: BusyWait | None = None) -> Machine:
    """The turn of a key that was used before. Its arguments are stored since then."""
    return _again(replace(plan, instruction_args=None), loaded, _of_the_key, patience)


def _again(plan: Plan, loaded: Loaded, choose: Choice, patience: BusyWait | None = None) -> Machine:
    """A stored turn once more: the one that is chosen, unless it turns out to have ended."""
    patience = patience or BusyWait(plan.patience)
    given = plan.client
    while True:
        context = loaded.context
        chosen = choose(plan, loaded)
        if isinstance(chosen, Outcome):
            yield from still_needed(chosen.turn)
            return chosen
        if chosen.is_held(loaded.now):
            loaded = yield from patience.wait(chosen, loaded.now)
            continue
        opening = context.opening(chosen.id)
        if opening is None:
            raise _nothing_to_resume("the messages of the latest turn are gone")
        if chosen.awaited(loaded.now):
            raise busy(chosen, loaded.now, 0.0)
        plan = replace(plan, turn_id=chosen.id, client=given or chosen.client)
        system, args, _, new_args = _instruction(plan, context)
        ready: Ready | None = (yield Prepare(plan.client)) if plan.run else None
        approvals = decided(chosen, loaded.now)
        turn = _begun(plan, loaded.now + (ready.took if ready else 0.0), approvals, chosen.usage)
        metadata, partial = reopened(context, opening, chosen)
        change = Change(turn, (), metadata, new_args, partial)
        after = apply_change(context, change)
        active = ActiveTurn(
            plan, after, turn, after.opening(chosen.id) or opening, system, args, loaded.turns
        )
        active.not_yet_run = frozenset(asked.call for asked in approvals if asked.is_to_run)
        active.size = loaded.size
        found = yield from write_if_unchanged(Claim(loaded.seen, change))
        if found is None:
            return (yield from answer(active)) if plan.run else Outcome(turn)
        loaded = changed_since(context, found)


def _overtaken(plan: Plan, turn: Turn, found: Loaded) -> Outcome:
    """For a turn that was stored, and taken or cancelled by another before its own process knew. To store it
    was all that `run=False` asked for."""
    if plan.run:
        raise ended_by_another(found.context, turn.id)
    return Outcome(turn)


def _latest(_: Plan, loaded: Loaded) -> Turn:
    """For resume: the latest turn, unless it is completed."""
    turn = loaded.context.turn
    if turn is None or turn.status == "completed":
        raise _nothing_to_resume(
            "the session has no open turn" if turn is None else f"the latest turn is {turn.status}"
        )
    return turn


def _nothing_to_resume(found: str) -> NothingToResume:
    return NothingToResume(
        found,
        why="resume_session runs a turn that is pending, failed, interrupted or was left by its process",
        fix="call continue_session with a new message",
    )


def _of_the_key(plan: Plan, loaded: Loaded) -> Turn | Outcome:
    """For a key that was used before: its turn if it is the latest and has no reply yet, or how it ended."""
    context = loaded.context
    refuse_other_input(plan, context)
    turn = context.turn
    if turn is None or turn.id != plan.turn_id or turn.status == "completed":
        return outcome_of(plan, context)
    is_to_wait = bool(turn.awaited(loaded.now)) or (turn.is_open and not plan.run)
    return Outcome(turn) if is_to_wait else turn


def _instruction(plan: Plan, context: Context) -> tuple[str, JsonMap | None, str | None, JsonMap | None]:
    """The system message; its arguments, unless it is pinned; its text if this turn pins it, and the
    arguments to store if they are new."""
    pinned = pinned_instruction(plan, context)
    if pinned is not None:
        return pinned, None, None, None
    args, new_args = settle_args(plan, context)
    system = render(plan.agent, args)
    if plan.pin_instruction:
        return system, None, system, new_args
    return system, args, None, new_args


def _begun(plan: Plan, now: float, approvals: tuple[ApprovalState, ...] = (), usage: Usage = UNUSED) -> Turn:
    if not plan.run:
        return Turn(plan.turn_id, "pending", usage=usage, client=plan.client, approvals=approvals)
    return Turn(
        plan.turn_id,
        "running",
        usage=usage,
        client=plan.client,
        claim=plan.claim_id,
        since=now,
        until=now + plan.lease,
        lease=plan.lease,
        approvals=begun(approvals),
    )


def _is_busy(turn: Turn, now: float) -> bool:
    """Does the turn stand in the way of the next? One that was left by its process does not, nor one whose
    approval is overdue."""
    if turn.is_overdue(now):
        return False
    return turn.is_held(now) if turn.status == "running" else turn.is_open


def _abandoned(context: Context, now: float) -> Change:
    """What closes a turn whose process went away, or that nobody has approved in time, if there is one."""
    turn = context.turn
    if turn is None or not turn.is_open:
        return Change(turn or Turn("", "completed"))
    if turn.is_overdue(now):
        turn = msgspec.structs.replace(turn, approvals=decided(turn, now))
        return closing_change(context, turn, OVERDUE)
    return closing_change(context, turn, ABANDONED)
