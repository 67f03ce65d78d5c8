"""A guarded write whose answer may be lost on the way: look whether it is stored, and write once more."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from agentsession._turn.effects import (
    Change,
    Claim,
    Effect,
    Finish,
    Insert,
    Load,
    Loaded,
    Machine,
    Outcome,
    Save,
    Write,
    WriteUnconfirmed,
)
from agentsession._turn_state import Turn
from agentsession.context import Context
from agentsession.errors import (
    AgentSessionError,
    ContextUnreadable,
    DslError,
    LayoutMismatch,
    LeaseLost,
    SessionNotFound,
    StorageFailed,
    TurnCancelled,
    words,
)

T = TypeVar("T")

Writing = Generator[Effect, Any, Loaded | None]


def write_if_unchanged(write: Insert | Claim) -> Writing:
    """None once the write is stored, otherwise the session that stands against it; the database's own error
    if it does not come back."""
    try:
        return (yield from _written(write))
    except WriteUnconfirmed as lost:
        raise lost.__cause__ or lost from None


def write_as_holder(write: Save | Finish) -> Generator[Effect, Any, None]:
    """The write is stored, or a typed error says why it cannot be."""
    found = yield from _as_the_holder(_written(write))
    if found is not None:
        raise ended_by_another(found.context, write.change.turn.id)


def found_gone(turn_id: str) -> Generator[Effect, Any, LeaseLost | TurnCancelled]:
    """The error that says who has ended the claim."""
    found = yield from _as_the_holder(_read())
    return ended_by_another(found.context, turn_id)


def changed_since(seen: Context, found: Loaded) -> Loaded:
    """What is stored after a lost claim. Where nothing has changed, the claim could never be won."""
    if found.context == seen:
        raise ContextUnreadable(
            "a write was refused although the stored context is unchanged",
            why="the database reads the stored JSON in another way (a key that stands twice?)",
            fix="repair the row; nothing was changed",
        )
    return found


def update_if_unchanged(change_of: Callable[[Loaded], Change | None]) -> Machine:
    """Write, as an outsider, what is made of the session as it stands. None: its turn stays as it is."""
    loaded: Loaded = yield Load()
    while True:
        context, change = loaded.context, change_of(loaded)
        if change is None:
            return Outcome(context.turn or Turn("", "completed"))
        found = yield from write_if_unchanged(Claim(loaded.seen, change))
        if found is None:
            return Outcome(change.turn)
        loaded = changed_since(context, found)


def _read() -> Generator[Effect, Any, Loaded]:
    loaded: Loaded = yield Load()
    return loaded


def _as_the_holder(steps: Generator[Effect, Any, T]) -> Generator[Effect, Any, T]:
    """Steps after the model was asked: what goes wrong in them is a typed error."""
    try:
        return (yield from steps)
    except SessionNotFound as gone:
        raise _deleted(gone) from None
    except LayoutMismatch:
        raise _taken_over() from None
    except DslError as refused:
        (problem, *_) = refused.problems
        raise StorageFailed(
            f"the turn could not be stored: {problem.found}",
            why=f"{problem.why}; what was stored before is kept, with the user's words",
            fix=f"{problem.fix}; `.result` holds the reply, if it came",
        ) from refused
    except AgentSessionError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, WriteUnconfirmed) else error
        raise StorageFailed(
            f"the turn could not be stored: {type(cause).__name__}: {words(cause or error)}",
            why="what was stored before is kept, with the user's words; how the turn ended is not stored",
            fix="`.result` holds the reply, if it came; resume_session asks again once the lease is over",
        ) from cause


def ended_by_another(context: Context, turn_id: str) -> LeaseLost | TurnCancelled:
    """The transcript says it, even after other turns."""
    opening = context.opening(turn_id)
    told = None if opening is None else opening.metadata.get("error")
    if not isinstance(told, dict) or told.get("type") != TurnCancelled.__name__:
        return _taken_over()
    return TurnCancelled(
        "the turn was cancelled while it ran",
        why="cancel_session has ended it as interrupted; nothing more was stored",
        fix="call resume_session to run it again, or continue_session with another message",
    )


def _deleted(gone: SessionNotFound) -> SessionNotFound:
    gone.found = "the row was deleted during its turn"
    gone.why, gone.fix = "there is nothing to store the reply in", "`.result` holds the reply, if it came"
    return gone


def _taken_over() -> LeaseLost:
    return LeaseLost(
        "the turn was taken over by another process",
        why="its lease had run out, so this process no longer holds it; nothing more was stored",
        fix="read the session anew; `.result` holds the reply, if it came; a longer lease= avoids this",
    )


def _written(write: Write) -> Writing:
    """A write that found no row may be ours all the same, repeated by a driver: so look in any case.

    After a lost answer it is tried once more, which its guard makes safe.
    """
    lost: WriteUnconfirmed | None = None
    for _ in range(2):
        try:
            if (yield write):
                return None
            lost = None
        except WriteUnconfirmed as error:
            lost = error
        found = yield from _looked_up(write, lost)
        if found is not None and found.stored:
            return None
        if lost is None or (isinstance(write, Insert) and _began(found, write.change.turn.id)):
            return found
    raise lost or AssertionError("a loop ends with a lost answer only")


def _began(found: Loaded | None, turn_id: str) -> bool:
    """Did this turn begin, whoever has it now?"""
    return found is not None and found.context.opening(turn_id) is not None


def _looked_up(write: Write, lost: WriteUnconfirmed | None) -> Writing:
    """The session as it is stored now; None for one that was never inserted."""
    try:
        found: Loaded = yield Load(write.change)
    except Exception as error:
        if lost is None or (isinstance(error, SessionNotFound) and not isinstance(write, Insert)):
            raise
        if isinstance(error, SessionNotFound):
            return None
        raise lost from lost.__cause__
    return found
