"""I5: a call that outlasts its lease keeps its claim. The heartbeat ends with it and disturbs nothing."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from contextlib import nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import peewee as pw
import pytest

from agentsession import LeaseLost, ProviderFailed, SessionBusy, _clock, testing
from agentsession._drive import heartbeat
from agentsession._drive.stepper import after_effect
from agentsession.provider import ProviderCallError, Reply
from tests.support import servers
from tests.support.blocked_turn import Waits, a_slow_turn
from tests.support.lease_watch import SHORT, eventually, extended, grown, until_of
from tests.support.models import chat_model, kept, stored, texts

pytestmark = pytest.mark.matrix


def test_a_call_that_outlasts_its_lease_keeps_its_claim(database: Any, at: _clock.FakeClock) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model, session=SHORT)
    session = Chat.start_session("Hello")
    with a_slow_turn(Chat, session.id, model, at) as slow:
        since = at.seconds
        for _ in range(5):
            at.advance(0.2)
            until = extended(Chat, session.id, at)
            with pytest.raises(SessionBusy, match="lease ends in") as busy:
                session.continue_session("other")
            assert busy.value.until == pytest.approx(until, abs=0.001)
            assert busy.value.since == pytest.approx(since, abs=0.001)
        model.answer.set()
        assert slow.result().last_result.text == "answer to slow"
    assert texts(Chat, session)[2:] == ["slow", "answer to slow"]
    assert stored(session)["revision"] >= 2 + 2 + 5
    assert kept(session) | {"revision": 0} == slow.result().context | {"revision": 0}
    assert not heartbeat._heart.beats


SLOW_PROCESS = """
import sys
from agentsession.provider import Reply
from tests.support.models import chat_model, open_database

class WaitsForALine:
    def ask(self, request):
        print("asked", flush=True)
        sys.stdin.readline()
        return Reply("at last")

url, key = sys.argv[1:]
Chat = chat_model(open_database(url), provider=WaitsForALine(), session={"lease": 1.0}, create=False)
print(Chat.continue_session(key, "slow").last_turn.status)
"""


@pytest.mark.backends("sqlite", "postgres")
@pytest.mark.layouts("document")
def test_a_process_whose_call_outlasts_its_lease_keeps_its_claim(database: Any) -> None:
    Chat = chat_model(database, session={"lease": 1.0})
    session = Chat.start_session("Hello")
    command = [sys.executable, "-c", SLOW_PROCESS, database.url, str(session.id)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "asked\n"
        first = last = until_of(Chat, session)
        while last < first + 1.05:
            last = eventually(partial(grown, Chat, session, last))
            with pytest.raises(SessionBusy):
                session.continue_session("other")
        child.stdin.write("answer\n")
        child.stdin.flush()
        assert child.stdout.readline() == "completed\n"
    assert texts(Chat, session)[2:] == ["slow", "at last"]


def test_a_database_error_in_a_beat_is_logged_without_content(
    database: Any, at: _clock.FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    model, other = Waits(), servers.open_database(database.url)
    Chat = chat_model(database, provider=model, session=SHORT)
    session = Chat.start_session("Hello")
    with a_slow_turn(Chat, session.id, model, at) as slow, other.connection_context():
        extended(Chat, session.id, at)
        other.execute_sql("alter table chat rename to elsewhere")
        records = eventually(lambda: [each for each in caplog.records if each.name == "agentsession"])
        other.execute_sql("alter table elsewhere rename to chat")
        at.advance(100)
        extended(Chat, session.id, at)
        model.answer.set()
        assert slow.result().last_result.text == "answer to slow"
    assert records[0].levelno == logging.WARNING
    turn_name = re.escape(f"{session.id} turn {slow.result().last_turn.id}")
    assert re.fullmatch(
        rf"\[\S+Chat {turn_name}\] a lease could not be extended: \w+Error", records[0].getMessage()
    )
    assert not records[0].exc_info


def test_the_beat_stops_once_the_claim_is_lost(database: Any, at: _clock.FakeClock) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model, session=SHORT)
    session = Chat.start_session("Hello")
    with a_slow_turn(Chat, session.id, model, _clock.FakeClock(at.seconds)) as slow:
        at.advance(3600)
        session.continue_session("other")
        before = stored(session)
        eventually(lambda: not heartbeat._heart.beats)
        model.answer.set()
        with pytest.raises(LeaseLost):
            slow.result()
    assert stored(session) == before


def test_a_claim_of_an_expired_lease_that_a_beat_then_extends_is_refused(
    database: Any, at: _clock.FakeClock
) -> None:
    model, effects = Waits(), list[str]()
    Chat = chat_model(database, provider=model, session=SHORT)
    session, holder = Chat.start_session("Hello"), _clock.FakeClock(at.seconds)

    def extend_after_load(effect: Any) -> None:
        effects.append(type(effect).__name__)
        if effects == ["Load"]:
            holder.seconds = at.seconds
            extended(Chat, session.id, at)

    with a_slow_turn(Chat, session.id, model, holder) as slow:
        at.advance(10)
        token = after_effect.set(extend_after_load)
        with pytest.raises(SessionBusy):
            session.continue_session("other")
        after_effect.reset(token)
        model.answer.set()
        assert slow.result().last_result.text == "answer to slow"
    assert effects == ["Load", "Prepare", "Claim", "Load"]


class CountsBeats:
    """A model that raises `ending`, and counts the calls with a heartbeat while it runs."""

    def __init__(self, ending: BaseException | None = None) -> None:
        self.ending = ending
        self.calls: list[int] = []

    def ask(self, request: Any) -> Reply:
        self.calls.append(len(heartbeat._heart.beats))
        if self.ending is not None:
            raise self.ending
        return Reply("ok")


@pytest.mark.parametrize("ending", [None, ProviderCallError("down"), KeyboardInterrupt()], ids=str)
def test_the_beat_ends_with_its_call(database: Any, ending: BaseException | None) -> None:
    model = CountsBeats(ending)
    with pytest.raises((ProviderFailed, KeyboardInterrupt)) if ending else nullcontext():
        chat_model(database, provider=model, session=SHORT).start_session("Hello")
    assert model.calls == [1]
    assert not heartbeat._heart.beats


def test_a_row_that_no_other_connection_sees_has_no_beat(database: Any) -> None:
    model, memory = CountsBeats(), pw.SqliteDatabase(":memory:")
    memory.connect()
    InMemory = chat_model(memory, provider=model, create=False)
    memory.create_tables([InMemory])
    InMemory.start_session("Hello")
    Chat = chat_model(database, provider=model)
    with testing.inside_transaction(), database.atomic():
        session = Chat.start_session("Hello")
        session.continue_session("Again")
    assert model.calls == [0, 0, 0]
    session.continue_session("Outside")
    assert model.calls == [0, 0, 0, 1]


@pytest.mark.parametrize("wait_timeout", [0, 20])
def test_a_turn_completes_while_its_caller_holds_the_whole_pool(
    database_url: str, at: _clock.FakeClock, wait_timeout: int, caplog: pytest.LogCaptureFixture
) -> None:
    """`wait_timeout`: the seconds for which a beat waits for a connection of the pool."""
    pool = servers.open_database(database_url, pool=1)
    pool._wait_timeout = wait_timeout

    class TakesLong:
        def ask(self, request: Any) -> Reply:
            if request.prompt[-1].content == "slow":
                assert eventually(lambda: pool._pool_available._waiters if wait_timeout else caplog.records)
            return Reply("ok")

    Chat = chat_model(pool, provider=TakesLong(), session=SHORT)
    session = Chat.start_session("Hello")
    with pool.connection_context():
        assert session.continue_session("slow").last_turn.status == "completed"
        assert not pool.is_closed()
    eventually(lambda: not pool._in_use)
    assert session.continue_session("fast").last_turn.status == "completed"
    assert texts(Chat, session)[2:] == ["slow", "ok", "fast", "ok"]
    assert not heartbeat._heart.beats


class ConnectionOfContext(pw._ConnectionState):
    """Connections that belong to a context and not to a thread, as some async frameworks use them."""

    held: ContextVar[dict[str, Any] | None] = ContextVar("held", default=None)

    def __setattr__(self, name: str, value: Any) -> None:
        self.held.set((self.held.get() or {}) | {name: value})

    def __getattr__(self, name: str) -> Any:
        return (self.held.get() or vars(pw._ConnectionState()))[name]


@pytest.mark.parametrize("state", [ConnectionOfContext, pw._ConnectionState])
def test_a_beat_never_uses_the_connection_of_its_caller(database: Any, state: type) -> None:
    """If all threads share one connection, a beat opens another one or does not run."""
    database._state, database.thread_safe = state(), state is ConnectionOfContext
    caller, beats = threading.current_thread(), list[Any]()

    class WaitsForABeat:
        def ask(self, request: Any) -> Reply:
            if request.prompt[-1].content == "slow" and heartbeat._heart.beats:
                eventually(lambda: beats)
            return Reply("ok")

    Chat = chat_model(database, provider=WaitsForABeat(), session=SHORT)
    session = Chat.start_session("Hello")

    def look(_: Any) -> None:
        if threading.current_thread() is not caller:
            beats.append(database.connection())

    with database.connection_context():
        mine = database.connection()
        database.query_hooks.append(look)
        assert session.continue_session("slow").last_turn.status == "completed"
    assert mine not in beats
