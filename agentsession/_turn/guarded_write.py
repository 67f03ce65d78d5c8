"""Guarded writes, and what to do if the database does not confirm one.

There are two guards. A non-holder writes if the revision is still the one that it read. The holder writes if
the claim is still its own: a takeover stores a new claim, so a late holder matches no row. No guard compares
times, so a wrong clock costs at most a takeover.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

import msgspec

from agentsession._json_values import Json
from agentsession._safe_errors import error_message
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
)

T = TypeVar("T")

Writing = Generator[Effect, Any, Loaded | None]
"""A write. Returns None if it is stored, otherwise the session that is stored instead."""


def write_if_unchanged(write: Insert | Claim) -> Writing:
    """Write as a non-holder. Returns None if the write is stored, otherwise the session that is.

    An error of the database is raised as it is: the model was not called yet, and nothing was paid for.
    """
    try:
        return (yield from _confirmed(write))
    except WriteUnconfirmed as unconfirmed:
        raise unconfirmed.__cause__ or unconfirmed from None


def update_if_unchanged(change_of: Callable[[Loaded], Change | None]) -> Machine:
    """Write, as a non-holder, the change that `change_of` returns for the stored session.

    None leaves the session as it is. If the session has changed meanwhile, `change_of` is called again.
    """
    loaded: Loaded = yield Load()
    while True:
        context, change = loaded.context, change_of(loaded)
        if change is None:
            return Outcome(context.turn or Turn("", "completed"))
        found = yield from write_if_unchanged(Claim(loaded.seen, change))
        if found is None:
            return Outcome(change.turn)
        loaded = changed_since(context, found)


def changed_since(seen: Context, found: Loaded) -> Loaded:
    """Return the session that was found after a lost claim.

    Raises `ContextUnreadable` if it is the session that was seen: such a claim can never be won. SQLite and
    msgspec, for example, read a JSON key that occurs twice differently.
    """
    if found.context == seen:
        raise ContextUnreadable(
            "a write was refused although the stored context is unchanged",
            why="the database reads the stored JSON differently (a key that occurs twice?)",
            fix="repair the row; nothing was changed",
        )
    return found


def write_as_holder(write: Save | Finish) -> Generator[Effect, Any, None]:
    """Write as the holder of the claim; raises a typed error if the write is not stored."""
    found = yield from _with_typed_errors(_confirmed(write))
    if found is not None:
        raise ended_by_another(found.context, write.change.turn.id)


def load_claim_error(turn_id: str) -> Generator[Effect, Any, LeaseLost | TurnCancelled]:
    """Read the session and return the error that tells how another process has ended the claim."""
    found = yield from _with_typed_errors(_load())
    return ended_by_another(found.context, turn_id)


def ended_by_another(context: Context, turn_id: str) -> LeaseLost | TurnCancelled:
    """Return the error for a claim that another process has ended.

    The user's message tells whether the turn was cancelled, even after later turns.
    """
    opening = context.opening(turn_id)
    error = None if opening is None else opening.metadata.get("error")
    if not isinstance(error, dict) or error.get("type") != TurnCancelled.__name__:
        return _taken_over()
    return TurnCancelled(
        "the turn was cancelled while it ran",
        why="cancel_session has ended it as interrupted; nothing more was stored",
        fix="call resume_session to run it again, or continue_session with another message",
    )


def _load() -> Generator[Effect, Any, Loaded]:
    loaded: Loaded = yield Load()
    return loaded


def _with_typed_errors(work: Generator[Effect, Any, T]) -> Generator[Effect, Any, T]:
    """Do work of the holder. Each failure becomes a typed error, because a reply may have been paid for."""
    try:
        return (yield from work)
    except SessionNotFound as gone:
        raise _deleted(gone) from None
    except LayoutMismatch:
        raise _taken_over() from None
    except DslError as refused:
        (problem, *_) = refused.problems
        raise StorageFailed(
            f"the turn could not be stored: {problem.found}",
            why=f"{problem.why}; what was stored before is kept, with the user's message",
            fix=f"{problem.fix}; `.result` holds the reply, if it was received",
        ) from refused
    except AgentSessionError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, WriteUnconfirmed) else error
        raise StorageFailed(
            f"the turn could not be stored: {type(cause).__name__}: {error_message(cause or error)}",
            why="what was stored before is kept, with the user's message; the end of the turn is not stored",
            fix="`.result` holds the reply, if it was received; resume_session runs the turn again once the "
            "lease is over",
        ) from cause


def _deleted(gone: SessionNotFound) -> SessionNotFound:
    gone.found = "the row was deleted during its turn"
    gone.why = "there is nothing to store the reply in"
    gone.fix = "`.result` holds the reply, if it was received"
    return gone


def _taken_over() -> LeaseLost:
    return LeaseLost(
        "the turn was taken over by another process",
        why="its lease had run out, so this process no longer holds it; nothing more was stored",
        fix="read the session anew; `.result` holds the reply, if it was received; a longer lease= helps",
    )


def _confirmed(write: Write) -> Writing:
    """Write, and find out whether it is stored where the database does not say so.

    A write that matched no row may be stored as well, if a driver has repeated it. An unconfirmed write is
    tried once more, which its guard makes safe.
    """
    unconfirmed: WriteUnconfirmed | None = None
    for _ in range(2):
        try:
            if (yield write):
                return None
            unconfirmed = None
        except WriteUnconfirmed as error:
            unconfirmed = error
        found = yield from _look_up(write, unconfirmed)
        if found is not None and found.stored:
            return None
        if unconfirmed is None or (isinstance(write, Insert) and _has_begun(found, write.change.turn.id)):
            return found
    raise unconfirmed or AssertionError("only an unconfirmed write is tried twice")


def _has_begun(found: Loaded | None, turn_id: str) -> bool:
    """Return whether this turn is stored, whichever process holds it now."""
    return found is not None and found.context.opening(turn_id) is not None


def _look_up(write: Write, unconfirmed: WriteUnconfirmed | None) -> Writing:
    """Return the session as it is stored now, None if it was never inserted."""
    try:
        found: Loaded = yield Load(write.change)
    except Exception as error:
        if unconfirmed is None or (isinstance(error, SessionNotFound) and not isinstance(write, Insert)):
            raise
        if isinstance(error, SessionNotFound):
            return None
        raise unconfirmed from unconfirmed.__cause__
    return found


def contains(context: Context, change: Change) -> bool:
    """Return whether a change is stored: an unconfirmed write is decided by comparing values.

    An equal change of somebody else counts as well, so no trace of past claims is kept. An ended turn may
    have been followed by other turns; an open turn must be the latest one.
    """
    if change.turn.is_open and not _is_same_turn(context.turn, change.turn):
        return False
    messages = {message.id: message for message in context.messages}
    return all(_equal(messages.get(message.id), message) for message in change.append) and all(
        id_ in messages and _equal(messages[id_].metadata, metadata)
        for id_, metadata in change.metadata.items()
    )


def _is_same_turn(stored: Turn | None, turn: Turn) -> bool:
    """Return whether it is the same turn. Pending approvals may have been decided since."""
    if stored is None or (stored.id, stored.status, stored.claim) != (turn.id, turn.status, turn.claim):
        return False
    pairs = zip(stored.approvals, turn.approvals, strict=False)
    is_known = all(theirs == mine or mine.status == "pending" for theirs, mine in pairs)
    return is_known and len(stored.approvals) == len(turn.approvals)


def _equal(one: object, other: object) -> bool:
    """Compare as JSON values, whatever the order of their keys and the form of their numbers."""
    return bool(_as_json(one) == _as_json(other))


def _as_json(value: object) -> Json:
    return msgspec.json.decode(msgspec.json.encode(value))  # type: ignore[no-any-return]
