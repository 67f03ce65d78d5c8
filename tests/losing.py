"""Databases that lose the answer of a statement: the server has run it, or has not, and the driver raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import peewee as pw

from agentsession import AgentSessionError, ProviderError
from agentsession.provider import Reply
from tests import servers

Run = Callable[[], Any]


@dataclass
class Fault:
    """What becomes of the write number `at`, and of the statements after it."""

    at: int
    becomes: Callable[[Fault, Run], Any]
    error: type[pw.DatabaseError] = pw.OperationalError
    away: bool = False
    arriving: Run | None = None
    verbs: tuple[str, ...] = ("INSERT", "UPDATE")
    writes: list[str] = field(default_factory=list)

    def __call__(self, sql: str, run: Run) -> Any:
        if self.away:
            raise self.lost()
        if not sql.startswith(self.verbs):
            return run()
        self.writes.append(sql)
        late, self.arriving = self.arriving, None
        if late is not None:
            late()
        return self.becomes(self, run) if len(self.writes) == self.at else run()

    def lost(self) -> pw.DatabaseError:
        return self.error("server has gone away")


def is_stored(fault: Fault, run: Run) -> Any:
    run()
    raise fault.lost()


def is_not_stored(fault: Fault, run: Run) -> Any:
    raise fault.lost()


def arrives_late(fault: Fault, run: Run) -> Any:
    """It was still on its way to the server when the session was read again."""
    fault.arriving = run
    raise fault.lost()


def is_repeated_by_the_driver(fault: Fault, run: Run) -> Any:
    run()
    return run()


def and_stays_away(becomes: Callable[[Fault, Run], Any]) -> Callable[[Fault, Run], Any]:
    """The same, and every later statement fails as well."""

    def fault(fault: Fault, run: Run) -> Any:
        fault.away = True
        return becomes(fault, run)

    return fault


class Losing(servers.Recording):
    """Loses the answer of a write, as its `fault` says."""

    def execute_sql(self, sql: str, *args: Any, **keywords: Any) -> Any:
        run = partial(super().execute_sql, sql, *args, **keywords)
        fault: Fault | None = self.__dict__.get("fault")
        return run() if fault is None else fault(sql, run)


LOSING = {plain: type(plain.__name__, (Losing, plain), {}) for plain in servers.PLAIN.values()}


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
        said = request.view[-1].content
        if said == "Fail":
            raise ProviderError("down")
        return Reply("not JSON" if said == "Repeat" else '{"content":"ok"}')


def begun(Chat: Any) -> Any:
    return Chat.start_session("First")
