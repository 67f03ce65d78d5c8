"""An action that is ready to run: its machine and its session. A driver runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from agentsession import info
from agentsession._drive.asynchronous import AsyncPerformer, adrive
from agentsession._drive.feed import AsyncFeed, Feed
from agentsession._drive.sync import SyncPerformer, drive
from agentsession._options import AgentOptions
from agentsession._safe_errors import OwnFramesEmptied
from agentsession._store.record import CLAIM
from agentsession._store.session_store import StoredSession
from agentsession._turn.effects import Machine, Outcome
from agentsession._turn_state import Turn
from agentsession.context import Result
from agentsession.errors import (
    AgentSessionError,
    LeaseLost,
    SessionNotFound,
    StorageFailed,
    TurnCancelled,
    TurnFailed,
)
from agentsession.events import Event, TurnFinished, TurnStarted

M = TypeVar("M")
P = TypeVar("P", SyncPerformer, AsyncPerformer)


OUTCOME = "_agentsession_outcome"
"""Where a record keeps the `Outcome` of the action that returned it."""


@dataclass(frozen=True)
class Action(Generic[M]):
    """The turn of a call, and what a driver needs to run it. `session` is None for a call that stores
    nothing."""

    agent: AgentOptions
    machine: Machine
    client_options: Mapping[str, Any] | None = field(repr=False)
    session: StoredSession | None = None
    model: type[Any] | None = None
    actor: Any = None

    @property
    def record(self) -> M:
        """The row, as the caller receives it."""
        record: Any = None if self.session is None else self.session.record
        return record  # type: ignore[no-any-return]

    def run(self) -> Outcome:
        """Run the turn to its end. The model replies in one piece."""
        with self.errors():
            return self._ended(_last([*drive(self.machine, self._performer(SyncPerformer, streams=False))]))

    async def arun(self) -> Outcome:
        """As `run`, on an event loop."""
        with self.errors():
            events = adrive(self.machine, self._performer(AsyncPerformer, streams=False))
            return self._ended(_last([event async for event in events]))

    def events(self) -> Feed:
        """Return a feed that runs the turn event by event. Closing it ends the turn."""
        performer = self._performer(SyncPerformer, streams=True)
        return Feed(drive(self.machine, performer), performer)

    def aevents(self) -> AsyncFeed:
        """As `events`, on an event loop."""
        performer = self._performer(AsyncPerformer, streams=True)
        return AsyncFeed(adrive(self.machine, performer), performer)

    def to_event(self, event: Event | Outcome) -> Event | None:
        """Return the event of a stream, with its record. None if the turn has to wait for approvals."""
        if isinstance(event, TurnStarted):
            return msgspec.structs.replace(event, session=self.record)
        if isinstance(event, Event):
            return event
        outcome = self._ended(event)
        if outcome.result is None:
            return None
        return TurnFinished(outcome.turn.id, self.record, outcome.result)

    def remember_no_result(self) -> None:
        """Note on the record that its turn ended without a result."""
        if self.session is not None and self.session.turn is not None:
            _remember(self.session.record, self.session.turn, None)

    def _performer(self, kind: type[P], *, streams: bool) -> P:
        return kind(
            self.agent, self.client_options, self.session, self.model, actor=self.actor, streams=streams
        )

    def _ended(self, outcome: Outcome) -> Outcome:
        """Return the outcome, after noting it on the record."""
        session = self.session
        if session is not None:
            if session.turn is None:
                session.reflect()
            _remember(session.record, outcome.turn, outcome.result)
        return outcome

    def errors(self) -> _Errors:
        """Return a context manager that adds to an error where it happened, and the record."""
        return _Errors(self)

    def say_where(self, error: AgentSessionError) -> None:
        """Add to an error where it happened, the record, and what to do next."""
        session = self.session
        if session is None:
            error.where = error.where or f"{self.agent.qualified_name} call"
            error.fix = error.fix or "call again, or ask another model with client="
            return
        error.where = error.where or f"{info.qualified_name(session.model)} {session.key}"
        if isinstance(error, (TurnFailed, TurnCancelled, LeaseLost, SessionNotFound, StorageFailed)):
            error.session = session.record
        if isinstance(error, TurnFailed) and session.turn is not None:
            error.why = "the turn is stored as failed, and the user's words are kept"
            fix = f"{error.fix}, then call resume_session" if error.fix else error.remedy
            error.fix = f"{fix}, or continue_session with another message"


class _Errors(OwnFramesEmptied):
    def __init__(self, action: Action[Any]) -> None:
        self.action = action

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        self.action.remember_no_result()
        if isinstance(error, AgentSessionError):
            self.action.say_where(error)
        super().__exit__(kind, error, trace)


def _last(events: list[Event | Outcome]) -> Outcome:
    """Return the last value of a driver, which is the outcome of the turn."""
    if not isinstance(events[-1], Outcome):
        raise TypeError(f"a driver ended with {events[-1]!r}, not with an outcome")
    return events[-1]


def _remember(record: Any, turn: Turn, result: Result[Any] | None) -> None:
    """Note on the record which turn the action ran, at its end."""
    record.__dict__[OUTCOME] = Outcome(turn, result)
    record.__dict__.pop(CLAIM, None)
