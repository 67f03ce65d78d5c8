"""A turn, from the first read to the last write, as a pure generator of effects.

No I/O, no clock, no randomness: ids and times come in. An effect's error is thrown in at its `yield`.
There is no `finally` and no `except BaseException` here: dropping the machine is the crash.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from agentsession.context import Context, Message, Turn, TurnError
from agentsession.errors import NothingToResume, SessionBusy
from agentsession.json_values import JsonMap
from agentsession.turn.answer import Held, answer
from agentsession.turn.effects import Change, Claim, Insert, Load, Loaded, Machine, Outcome, Prepare
from agentsession.turn.opening import Plan, opening_messages, render, settle_args, system_message

ABANDONED = TurnError("LeaseExpired", "the process that ran this turn went away")


def start(plan: Plan, now: float) -> Machine:
    """A new session and its first turn. The lease counts from the host's clock."""
    args, _ = settle_args(plan, Context())
    system = render(plan.agent, args)
    pinned = system if plan.pin_instruction else None
    if plan.run:
        yield Prepare(plan.client)
    turn = _begun(plan, now)
    messages = opening_messages(plan, pinned)
    yield Insert(Change(turn, messages, instruction_args=args))
    if not plan.run:
        return Outcome(turn)
    return (yield from answer(Held(plan, Context(messages=messages), turn, system)))


def continue_(plan: Plan) -> Machine:
    """The next turn of a session. A turn whose holder has gone is closed as interrupted."""
    if plan.run:
        yield Prepare(plan.client)
    while True:
        loaded: Loaded = yield Load()
        context = loaded.context
        if context.turn is not None and context.turn.is_open:
            _refuse_unless_abandoned(context.turn, loaded.now)
        args, new_args = settle_args(plan, context)
        system, is_new = system_message(plan, context, args)
        turn = _begun(plan, loaded.now)
        messages = opening_messages(plan, system if is_new and plan.pin_instruction else None)
        closed = _closed(context)
        if (yield Claim(context.revision, Change(turn, messages, closed, new_args))):
            break
    if not plan.run:
        return Outcome(turn)
    return (yield from answer(Held(plan, _with(context, messages, closed), turn, system)))


def resume(plan: Plan) -> Machine:
    """The latest turn again, if it is open, failed or interrupted: same id, same words, a new claim."""
    yield Prepare(plan.client)
    loaded: Loaded = yield Load()
    if plan.client is None and loaded.context.turn is not None and loaded.context.turn.client:
        yield Prepare(loaded.context.turn.client)
        loaded = yield Load()
    while True:
        context = loaded.context
        earlier = _resumable(context, loaded.now)
        plan = replace(plan, turn_id=earlier.id, client=plan.client or earlier.client)
        args, new_args = settle_args(plan, context)
        system, _ = system_message(plan, context, args)
        turn = _begun(plan, loaded.now)
        reopened = _reopened(context, earlier)
        if (yield Claim(context.revision, Change(turn, (), reopened, new_args))):
            break
        loaded = yield Load()
    return (yield from answer(Held(plan, _with(context, (), reopened), turn, system)))


def single(plan: Plan, context: Context, system: str) -> Machine:
    """A call without a session: the same questions and answers, whose writes nobody performs."""
    yield Prepare(plan.client)
    return (yield from answer(Held(plan, context, Turn(plan.turn_id, "running"), system)))


def _begun(plan: Plan, now: float) -> Turn:
    if not plan.run:
        return Turn(plan.turn_id, "pending", client=plan.client)
    until = now + plan.lease
    return Turn(plan.turn_id, "running", client=plan.client, claim=plan.claim_id, since=now, until=until)


def _refuse_unless_abandoned(turn: Turn, now: float) -> None:
    if turn.status == "running" and not turn.is_held(now):
        return
    if turn.status == "running":
        since, left = now - (turn.since or now), (turn.until or now) - now
        found = f"a turn has been running for {since:.1f} s, its lease ends in {left:.1f} s"
        fix = "try again when it has ended, or once its lease has run out"
    else:
        found = f"the latest turn is {turn.status}: it is stored and waits to be run"
        fix = "call resume_session to run it, then continue"
    busy = SessionBusy(found, why="a session runs one turn at a time; nothing was stored", fix=fix)
    busy.status, busy.since, busy.until = turn.status, turn.since, turn.until
    raise busy


def _resumable(context: Context, now: float) -> Turn:
    turn = context.turn
    if turn is None or turn.status == "completed" or context.opening(turn.id) < 0:
        raise NothingToResume(
            "the session has no open turn" if turn is None else f"the latest turn is {turn.status}",
            why="resume_session runs a turn that is pending, failed, interrupted or was left by its process",
            fix="call continue_session with a new message",
        )
    if turn.is_held(now):
        _refuse_unless_abandoned(turn, now)
    return turn


def _closed(context: Context) -> dict[int, JsonMap]:
    """Metadata that closes a turn whose process went away."""
    turn = context.turn
    if turn is None or not turn.is_open:
        return {}
    position = context.opening(turn.id)
    if position < 0:
        return {}
    error = msgspec.to_builtins(ABANDONED)
    return {position: {**context.messages[position].metadata, "status": "interrupted", "error": error}}


def _reopened(context: Context, turn: Turn) -> dict[int, JsonMap]:
    """Metadata that shows a failed or interrupted turn to the model again."""
    position = context.opening(turn.id)
    metadata = context.messages[position].metadata
    if "status" not in metadata:
        return {}
    return {position: {key: value for key, value in metadata.items() if key not in ("status", "error")}}


def _with(context: Context, added: tuple[Message, ...], metadata: dict[int, JsonMap]) -> Context:
    """The context as it is stored after a claim."""
    messages = list(context.messages)
    for position, values in metadata.items():
        messages[position] = msgspec.structs.replace(messages[position], metadata=values)
    return msgspec.structs.replace(context, messages=(*messages, *added))
