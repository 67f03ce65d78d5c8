"""A turn, from its first read to its last write, as a pure generator of effects.

It performs no I/O and uses no clock and no randomness: ids and times are passed in. The error of an effect
is thrown in at its `yield`. There is no `finally` and no `except BaseException` here: dropping the machine
has the effect of a crash, and `testing.crash_after` does so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import msgspec

from agentsession._json_values import JsonMap
from agentsession._turn.active_turn import ActiveTurn, apply_change
from agentsession._turn.approvals import emit_pending_approvals, mark_begun, reject_overdue
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
)
from agentsession._turn.finish import (
    ABANDONED,
    CANCELLED,
    OVERDUE,
    closing_change,
    outcome_of,
    refuse_other_input,
    reopening_metadata,
)
from agentsession._turn.guarded_write import (
    changed_since,
    ended_by_another,
    update_if_unchanged,
    write_if_unchanged,
)
from agentsession._turn.loop import run_loop
from agentsession._turn.plan import (
    BusyWait,
    Plan,
    busy,
    grown_size,
    opening_messages,
    pinned_instruction,
    render,
    settle_args,
)
from agentsession._turn_state import AWAITING, UNUSED, ApprovalState, Turn, Usage
from agentsession.context import Context, Message, with_schema
from agentsession.errors import NoResult, NothingToResume

Choice: TypeAlias = "Callable[[Plan, Loaded], Turn | Outcome]"
"""Returns the stored turn to run again, or its outcome if it has ended."""


def start(plan: Plan) -> Machine:
    """Begin a session and run its first turn. The lease is counted from the host's clock."""
    args, _ = settle_args(plan, Context())
    system = render(plan.agent, args)
    own_args = None if plan.pin_instruction else args
    messages = opening_messages(plan, system if plan.pin_instruction else None)
    size = grown_size(plan, 0, messages, args)
    ready: Ready | None = (yield Prepare(plan.client)) if plan.run else None
    turn = _begin(plan, ready.now if ready else 0.0)
    context = Context(messages=messages, count=len(messages))
    active = ActiveTurn(plan, context, turn, messages[-1], system, own_args, size=size)
    found = yield from write_if_unchanged(Insert(Change(turn, messages, instruction_args=args)))
    if found is not None and not plan.keyed:
        return _overtaken(plan, turn, found)
    if found is not None:
        return (yield from _repeat_key(plan, found))
    return (yield from run_loop(active)) if plan.run else Outcome(turn)


def continue_(plan: Plan) -> Machine:
    """Run the next turn of a session. An abandoned turn is first closed as interrupted."""
    wait = BusyWait(plan.patience)
    loaded: Loaded = yield Load()
    while True:
        context = loaded.context
        if plan.keyed and context.opening(plan.turn_id) is not None:
            return (yield from _repeat_key(plan, loaded, wait))
        if context.turn is not None and _is_busy(context.turn, loaded.now):
            if context.turn.status == AWAITING:
                raise busy(context.turn, loaded.now, wait.spent)
            loaded = yield from wait.wait(context.turn, loaded.now)
            continue
        system, args, pinned, new_args = _instruction(plan, context)
        closing = _close_abandoned(context, loaded.now)
        messages = opening_messages(plan, pinned, context.count + len(closing.append))
        size = grown_size(plan, loaded.size, messages, new_args)
        ready: Ready | None = (yield Prepare(plan.client)) if plan.run else None
        turn = _begin(plan, loaded.now + (ready.took if ready else 0.0))
        change = Change(turn, (*closing.append, *messages), closing.metadata, new_args)
        after = apply_change(context, change)
        active = ActiveTurn(plan, after, turn, messages[-1], system, args, loaded.turns + 1)
        active.size = size
        found = yield from write_if_unchanged(Claim(loaded.seen, change))
        if found is None:
            return (yield from run_loop(active)) if plan.run else Outcome(turn)
        if not plan.keyed and found.context.opening(plan.turn_id) is not None:
            return _overtaken(plan, turn, found)
        loaded = changed_since(context, found)


def resume(plan: Plan) -> Machine:
    """Run the latest turn again, if it is open, failed or interrupted, with the same id and a new claim."""
    loaded: Loaded = yield Load()
    return (yield from _run_again(plan, loaded, _latest))


def cancel() -> Machine:
    """End the open turn, whichever process runs it. A turn that has ended stays as it is."""
    return (yield from update_if_unchanged(_cancelling_change))


def single(plan: Plan, context: Context, system: str, args: JsonMap | None) -> Machine:
    """Run a call without a session: the same loop, with a driver that performs no writes."""
    yield Prepare(plan.client)
    opening = context.messages[-1]
    active = ActiveTurn(plan, context, Turn(opening.turn, "running"), opening, system, args, is_stored=False)
    outcome = yield from run_loop(active)
    if outcome.result is None:
        return outcome
    result = replace(outcome.result, context=_conversation(active, system))
    return msgspec.structs.replace(outcome, result=result)


def _conversation(active: ActiveTurn, system: str) -> Context:
    """Return the conversation, beginning with the instruction if it was rendered for this call."""
    messages = with_schema(active.context.messages, active.plan.agent.input)
    if not any(message.role == "system" for message in messages):
        messages = (Message("0:0", "0", "system", system), *messages)
    return msgspec.structs.replace(active.context, messages=messages, count=len(messages))


def _cancelling_change(loaded: Loaded) -> Change | None:
    turn = loaded.context.turn
    if turn is None:
        raise NoResult(
            "the session has no turn yet", why="there is nothing to cancel", fix="send a message first"
        )
    return closing_change(loaded.context, turn, CANCELLED) if turn.is_open else None


def _repeat_key(plan: Plan, loaded: Loaded, wait: BusyWait | None = None) -> Machine:
    """Return the outcome of the turn of a key that was used before, or run it again.

    The instruction's arguments were stored with the first use of the key.
    """
    return _run_again(replace(plan, instruction_args=None), loaded, _of_the_key, wait)


def _run_again(plan: Plan, loaded: Loaded, choose: Choice, wait: BusyWait | None = None) -> Machine:
    """Run the chosen stored turn again, or return its outcome if it has ended."""
    wait = wait or BusyWait(plan.patience)
    client = plan.client
    while True:
        context = loaded.context
        chosen = choose(plan, loaded)
        if isinstance(chosen, Outcome):
            yield from emit_pending_approvals(chosen.turn)
            return chosen
        if chosen.is_held(loaded.now):
            loaded = yield from wait.wait(chosen, loaded.now)
            continue
        opening = context.opening(chosen.id)
        if opening is None:
            raise _nothing_to_resume("the messages of the latest turn are gone")
        if chosen.pending_approvals(loaded.now):
            raise busy(chosen, loaded.now, 0.0)
        plan = replace(plan, turn_id=chosen.id, client=client or chosen.client)
        system, args, _, new_args = _instruction(plan, context)
        ready: Ready | None = (yield Prepare(plan.client)) if plan.run else None
        approvals = reject_overdue(chosen, loaded.now)
        now = loaded.now + (ready.took if ready else 0.0)
        turn = _begin(plan, now, mark_begun(approvals) if plan.run else approvals, chosen.usage)
        metadata, partial = reopening_metadata(context, opening, chosen)
        change = Change(turn, (), metadata, new_args, partial)
        after = apply_change(context, change)
        opening = after.opening(chosen.id) or opening
        active = ActiveTurn(plan, after, turn, opening, system, args, loaded.turns)
        active.not_yet_run = frozenset(each.call for each in approvals if each.is_to_run)
        active.size = loaded.size
        found = yield from write_if_unchanged(Claim(loaded.seen, change))
        if found is None:
            return (yield from run_loop(active)) if plan.run else Outcome(turn)
        loaded = changed_since(context, found)


def _overtaken(plan: Plan, turn: Turn, found: Loaded) -> Outcome:
    """Return the outcome of a turn that was stored, and that another process took over or cancelled at once.

    With `run=False`, storing it was all there was to do.
    """
    if plan.run:
        raise ended_by_another(found.context, turn.id)
    return Outcome(turn)


def _latest(_: Plan, loaded: Loaded) -> Turn:
    """Return the latest turn for `resume`; raises `NothingToResume` if it is completed."""
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
    """Return the turn of the key if it is the latest and has no reply yet, otherwise its outcome."""
    context = loaded.context
    refuse_other_input(plan, context)
    turn = context.turn
    if turn is None or turn.id != plan.turn_id or turn.status == "completed":
        return outcome_of(plan, context)
    is_waiting = bool(turn.pending_approvals(loaded.now)) or (turn.is_open and not plan.run)
    return Outcome(turn) if is_waiting else turn


def _instruction(plan: Plan, context: Context) -> tuple[str, JsonMap | None, str | None, JsonMap | None]:
    """Return the instruction of this turn as four values.

    They are the system message, its arguments (None if it is pinned), its text if this turn pins it, and the
    arguments to store if they are new.
    """
    pinned = pinned_instruction(plan, context)
    if pinned is not None:
        return pinned, None, None, None
    args, new_args = settle_args(plan, context)
    system = render(plan.agent, args)
    if plan.pin_instruction:
        return system, None, system, new_args
    return system, args, None, new_args


def _begin(plan: Plan, now: float, approvals: tuple[ApprovalState, ...] = (), usage: Usage = UNUSED) -> Turn:
    """Return the turn as it is stored at its beginning: with a claim, or pending if it is to run later."""
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
        approvals=approvals,
    )


def _is_busy(turn: Turn, now: float) -> bool:
    """Return whether the turn blocks the next one. An abandoned turn does not, and neither does one whose
    approval is overdue."""
    if turn.is_overdue(now):
        return False
    return turn.is_held(now) if turn.status == "running" else turn.is_open


def _close_abandoned(context: Context, now: float) -> Change:
    """Return the change that closes an abandoned or overdue turn, or an empty one."""
    turn = context.turn
    if turn is None or not turn.is_open:
        return Change(turn or Turn("", "completed"))
    if turn.is_overdue(now):
        turn = msgspec.structs.replace(turn, approvals=reject_overdue(turn, now))
        return closing_change(context, turn, OVERDUE)
    return closing_change(context, turn, ABANDONED)
