"""A turn, from the first read to the last write, as a pure generator of effects.

No I/O, no clock, no randomness: ids and times come in. An effect's error is thrown in at its `yield`.
There is no `finally` and no `except BaseException` here: dropping the machine is the crash.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import msgspec

from agentsession.context import Context, Message, Turn, TurnError
from agentsession.errors import ContextUnreadable, NothingToResume, SessionBusy
from agentsession.json_values import JsonMap
from agentsession.turn.answer import Held, answer
from agentsession.turn.effects import (
    Change,
    Claim,
    Effect,
    Insert,
    Load,
    Loaded,
    Machine,
    Outcome,
    Prepare,
    Ready,
)
from agentsession.turn.opening import Plan, opening_messages, pinned_instruction, render, settle_args

ABANDONED = TurnError("LeaseExpired", "the process that ran this turn went away")


def start(plan: Plan) -> Machine:
    """A new session and its first turn. The lease counts from the host's clock."""
    args, _ = settle_args(plan, Context())
    system = render(plan.agent, args)
    ready: Ready | None = (yield Prepare(plan.client)) if plan.run else None
    turn = _begun(plan, ready.now if ready else 0.0)
    messages = opening_messages(plan, system if plan.pin_instruction else None)
    held = Held.of(plan, Context(messages=messages), turn, system)
    yield Insert(Change(turn, messages, instruction_args=args))
    return (yield from answer(held)) if plan.run else Outcome(turn)


def continue_(plan: Plan) -> Machine:
    """The next turn of a session. A turn whose holder has gone is closed as interrupted."""
    loaded: Loaded = yield Load()
    while True:
        context = loaded.context
        if context.turn is not None and context.turn.is_open:
            _refuse_unless_abandoned(context.turn, loaded.now)
        system, pinned, new_args = _instruction(plan, context)
        ready: Ready | None = (yield Prepare(plan.client)) if plan.run else None
        turn = _begun(plan, loaded.now + (ready.took if ready else 0.0))
        messages = opening_messages(plan, pinned)
        closed = _closed(context)
        held = Held.of(plan, _with(context, messages, closed), turn, system)
        if (yield Claim(context.revision, Change(turn, messages, closed, new_args))):
            break
        loaded = yield from _reload(context)
    return (yield from answer(held)) if plan.run else Outcome(turn)


def resume(plan: Plan) -> Machine:
    """The latest turn again, if it is open, failed or interrupted: same id, same words, a new claim."""
    given = plan.client
    loaded: Loaded = yield Load()
    while True:
        context = loaded.context
        earlier = _resumable(context, loaded.now)
        plan = replace(plan, turn_id=earlier.id, client=given or earlier.client)
        system, _, new_args = _instruction(plan, context)
        ready: Ready = yield Prepare(plan.client)
        turn = _begun(plan, loaded.now + ready.took)
        reopened = _reopened(context, earlier)
        held = Held.of(plan, _with(context, (), reopened), turn, system)
        if (yield Claim(context.revision, Change(turn, (), reopened, new_args))):
            break
        loaded = yield from _reload(context)
    return (yield from answer(held))


def single(plan: Plan, context: Context, system: str) -> Machine:
    """A call without a session: the same questions and answers, whose writes nobody performs."""
    yield Prepare(plan.client)
    return (yield from answer(Held.of(plan, context, Turn(context.messages[-1].turn, "running"), system)))


def _instruction(plan: Plan, context: Context) -> tuple[str, str | None, JsonMap | None]:
    """The system message, its text if this turn pins it, and the arguments to store if they are new."""
    pinned = pinned_instruction(plan, context)
    if pinned is not None:
        return pinned, None, None
    args, new_args = settle_args(plan, context)
    system = render(plan.agent, args)
    return system, system if plan.pin_instruction else None, new_args


def _reload(seen: Context) -> Generator[Effect, Any, Loaded]:
    """What is stored after a lost claim. Where nothing has changed, the claim could never be won."""
    loaded: Loaded = yield Load()
    if loaded.context == seen:
        raise ContextUnreadable(
            "a write was refused although the stored context is unchanged",
            why="the database reads the stored JSON in another way (a key that stands twice?)",
            fix="repair the row; nothing was changed",
        )
    return loaded


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
