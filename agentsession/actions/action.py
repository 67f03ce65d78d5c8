"""An action that is about to run: its machine and its session. How it is run is the driver's."""

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
from agentsession._store.session_store import StoredSession
from agentsession._tracebacks import OwnFramesEmptied
from agentsession._turn.effects import Machine, Outcome
from agentsession.actions import results
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


@dataclass(frozen=True)
class Action(Generic[M]):
    """`session` is None for a single call, which stores nothing."""

    agent: AgentOptions
    machine: Machine
    client_options: Mapping[str, Any] | None = field(repr=False)
    session: StoredSession | None = None
    model: type[Any] | None = None
    actor: Any = None

    @property
    def record(self) -> M:
        """The row, as the caller gets it back."""
        record: Any = None if self.session is None else self.session.record
        return record  # type: ignore[no-any-return]

    def run(self) -> Outcome:
        """Run it to its end, without pieces."""
        with self.errors():
            return self._ended(_last([*drive(self.machine, self._performer(SyncPerformer, streams=False))]))

    async def arun(self) -> Outcome:
        with self.errors():
            events = adrive(self.machine, self._performer(AsyncPerformer, streams=False))
            return self._ended(_last([event async for event in events]))

    def events(self) -> Feed:
        """Run it event by event; to close the feed ends the turn."""
        performer = self._performer(SyncPerformer, streams=True)
        return Feed(drive(self.machine, performer), performer)

    def aevents(self) -> AsyncFeed:
        performer = self._performer(AsyncPerformer, streams=True)
        return AsyncFeed(adrive(self.machine, performer), performer)

    def told(self, event: Event | Outcome) -> Event | None:
        """The event as the user sees it; None at the end of a turn that waits for an approval."""
        if isinstance(event, TurnStarted):
            return msgspec.structs.replace(event, session=self.record)
        if isinstance(event, Event):
            return event
        outcome = self._ended(event)
        if outcome.result is None:
            return None
        return TurnFinished(outcome.turn.id, self.record, outcome.result)

    def left(self) -> None:
        """The turn has ended without a result."""
        if self.session is not None and self.session.turn is not None:
            results.remember(self.session.record, self.session.turn, None)

    def _performer(self, kind: type[P], *, streams: bool) -> P:
        return kind(
            self.agent, self.client_options, self.session, self.model, actor=self.actor, streams=streams
        )

    def _ended(self, outcome: Outcome) -> Outcome:
        """The outcome, noted on the record."""
        session = self.session
        if session is not None:
            if session.turn is None:
                session.reflect()
            results.remember(session.record, outcome.turn, outcome.result)
        return outcome

    def errors(self) -> _Errors:
        """A context manager: what goes wrong says where, and has the record."""
        return _Errors(self)

    def say_where(self, error: AgentSessionError) -> None:
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
        self.action.left()
        if isinstance(error, AgentSessionError):
            self.action.say_where(error)
        super().__exit__(kind, error, trace)


def _last(told: list[Event | Outcome]) -> Outcome:
    """What a driver says at the end."""
    if not isinstance(told[-1], Outcome):
        raise TypeError(f"a driver ended with {told[-1]!r}, not with an outcome")
    return told[-1]
