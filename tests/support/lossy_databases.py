"""Databases that lose the answer of a write: the server has stored it, or has not, and the driver raises.

A write is a statement, or a transaction that begins while the fault lasts. What is lost of that is the whole:
its answer at COMMIT, or its connection before any of its statements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import peewee as pw

from agentsession import AgentSessionError, ProviderCallError
from agentsession.provider import Reply
from tests.support import servers

Run = Callable[[], Any]


def nothing() -> None:
    """There is nothing to take back of a statement that was not run."""


@dataclass
class Sent:
    """A write on its way: it is performed when called, taken back by the server, or set aside, which gives
    what performs it later."""

    perform: Run
    set_aside: Callable[[], Run]
    take_back: Run = nothing

    def __call__(self) -> Any:
        return self.perform()


@dataclass
class Fault:
    """What becomes of the write number `at`, and of the statements after it. `within`: it is a transaction,
    and its connection breaks off before this statement of it (0: BEGIN)."""

    at: int
    becomes: Callable[[Fault, Sent], Any]
    error: type[pw.DatabaseError] = pw.OperationalError
    within: int | None = None
    away: bool = False
    arriving: Run | None = None
    verbs: tuple[str, ...] = ("INSERT", "UPDATE")
    writes: list[str] = field(default_factory=list)
    begun: int = 0

    def statement(self, sql: str, sent: Sent) -> Any:
        if self.away:
            raise self.lost()
        if not sql.startswith(self.verbs):
            return sent()
        self.arrives()
        return self.write(sql, sent)

    def begins(self) -> None:
        if self.away:
            raise self.lost()
        self.arrives()
        self.begun += 1
        self.goes_on(0)

    def goes_on(self, statement: int, take_back: Run = nothing) -> None:
        """In a transaction, up to this statement of it."""
        if (self.begun, statement) == (self.at, self.within):
            self.writes.append("BEGIN")
            take_back()
            raise self.lost()

    def arrives(self) -> None:
        late, self.arriving = self.arriving, None
        if late is not None:
            late()

    def write(self, sql: str, sent: Sent) -> Any:
        self.writes.append(sql)
        is_met = len(self.writes) == self.at and self.within is None
        return self.becomes(self, sent) if is_met else sent()

    def lost(self) -> pw.DatabaseError:
        return self.error("server has gone away")


def is_stored(fault: Fault, sent: Sent) -> Any:
    sent()
    raise fault.lost()


def is_not_stored(fault: Fault, sent: Sent) -> Any:
    sent.take_back()
    raise fault.lost()


def arrives_late(fault: Fault, sent: Sent) -> Any:
    """It was still on its way to the server when the session was read again."""
    fault.arriving = sent.set_aside()
    raise fault.lost()


def is_repeated_by_the_driver(fault: Fault, sent: Sent) -> Any:
    """As no driver does with what belongs to a transaction."""
    sent()
    return sent()


def and_stays_away(becomes: Callable[[Fault, Sent], Any]) -> Callable[[Fault, Sent], Any]:
    """The same, and every later statement fails as well."""

    def fault(fault: Fault, sent: Sent) -> Any:
        fault.away = True
        return becomes(fault, sent)

    return fault


class Losing(servers.Recording):
    """Loses the answer of a write, as its `fault` says. `sent`: so many statements of a transaction."""

    fault: Fault | None = None
    sent: int | None = None
    has_ended = False

    def execute_sql(self, sql: str, *args: Any, **keywords: Any) -> Any:
        run = partial(super().execute_sql, sql, *args, **keywords)
        if self.fault is None:
            return run()
        if self.sent is None:
            return self.fault.statement(sql, Sent(run, lambda: run))
        self.sent += 1
        self.fault.goes_on(self.sent, self.take_back)
        return run()

    def begin(self, *args: Any, **keywords: Any) -> None:
        self.has_ended, self.sent = False, None
        if self.fault is not None:
            self.fault.begins()
            self.sent = 0
        super().begin(*args, **keywords)

    def commit(self) -> Any:
        sent, self.sent = self.sent, None
        if self.fault is None or sent is None:
            return super().commit()
        return self.fault.write("COMMIT", Sent(self.perform, self.set_aside, self.take_back))

    def rollback(self) -> None:
        """Of a connection that was lost there is nothing to roll back."""
        self.sent = None
        if not self.has_ended:
            super().rollback()

    def perform(self) -> None:
        super().commit()
        self.has_ended = True

    def take_back(self) -> None:
        super().rollback()
        self.has_ended = True

    def set_aside(self) -> Run:
        """The server has all but the COMMIT, and who asks for a connection gets a new one."""
        lost = self._state.conn
        self._state.set_connection(self._connect())
        self.has_ended = True

        def arrive() -> None:
            lost.cursor().execute("COMMIT")
            lost.close()

        return arrive


LOSING = {plain: type(plain.__name__, (Losing, plain), {}) for plain in servers.PLAIN}


def losing(database: Any) -> Any:
    """The same database, with a `fault`."""
    database.__class__ = LOSING[type(database)]
    return database


def under(fault: Fault | None, database: Any, act: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """The record and the error that an action ended with, while the fault lasts."""
    database.fault = fault
    try:
        return act(), None
    except (AgentSessionError, pw.PeeweeException) as error:
        return getattr(error, "session", None), error
    finally:
        database.fault = None


class Model:
    """Says ok; at "Repeat" only after a reply that does not fit, at "Fail" never."""

    asked = 0

    def ask(self, request: Any) -> Reply:
        self.asked += 1
        said = request.prompt[-1].content
        if said == "Fail":
            raise ProviderCallError("down")
        return Reply("not JSON" if said == "Repeat" else '{"content":"ok"}')


def begun(Chat: Any) -> Any:
    return Chat.start_session("First")
