"""I5: a call that outlasts its lease keeps its claim; the heartbeat disturbs nothing and ends with it."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import peewee as pw
import pytest

from agentsession import LeaseLost, ProviderFailed, SessionBusy, clock, testing
from agentsession.drive import heartbeat
from agentsession.drive.sync import after_effect
from agentsession.provider import ProviderError, Reply
from tests import servers
from tests.models import chat_model, stored, texts

SHORT = {"lease": 0.3}
"""Its beats come ten times a second; where the clock stands still, it never runs out by itself."""


def pooled(url: str) -> Any:
    """A pool of one connection, which may go from thread to thread."""
    database = servers.open_database(url, pool=1)
    if servers.backend_of(url) == "sqlite":
        database.connect_params["check_same_thread"] = False
    return database


class Waits:
    """A model that answers, where it is told "slow", when it may."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.answer = threading.Event()

    def ask(self, request: Any) -> Reply:
        words = request.view[-1].content
        if words.startswith("slow"):
            self.asked.release()
            assert self.answer.wait(300)
        return Reply(f"answer to {words}")


def eventually(happened: Callable[[], Any], limit: float = 60.0) -> Any:
    """What it gives, once that is true."""
    deadline = time.monotonic() + limit
    while not (found := happened()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
    return found


@contextmanager
def a_slow_turn(Chat: Any, key: Any, model: Waits, at: clock.FakeClock | None) -> Iterator[Future[Any]]:
    """A turn in a thread whose clock is this one; its model was asked and does not answer yet."""

    def turn() -> Any:
        clock.fake.set(at)
        return Chat.continue_session(key, "slow")

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(turn)
        try:
            assert model.asked.acquire(timeout=60)
            yield slow
        finally:
            model.answer.set()


@pytest.fixture
def at() -> Iterator[clock.FakeClock]:
    """A clock that stands still until it is told to go on, for this thread."""
    at = clock.FakeClock(time.time())
    token = clock.fake.set(at)
    yield at
    clock.fake.reset(token)


def until_of(Chat: Any, key: Any) -> float:
    return float(Chat.get_context(key).turn.until)


def grown(Chat: Any, key: Any, last: float) -> float | None:
    """The end of the lease, if it is a later one."""
    until = until_of(Chat, key)
    return until if until > last else None


def extended(Chat: Any, key: Any, at: clock.FakeClock) -> float:
    """Wait for a beat at this time: the end of the lease that it gave."""
    until = at.seconds + SHORT["lease"]
    eventually(lambda: until_of(Chat, key) == pytest.approx(until, abs=0.001))
    return until


def test_a_call_that_outlasts_its_lease_keeps_its_claim(database: Any, at: clock.FakeClock) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model, session=SHORT)
    session = Chat.start_session("Hello")
    with a_slow_turn(Chat, session.id, model, at) as slow:
        since = at.seconds
        for _ in range(8):
            at.advance(0.2)
            until = extended(Chat, session.id, at)
            with pytest.raises(SessionBusy, match="lease ends in") as busy:
                session.continue_session("other")
            assert busy.value.until == pytest.approx(until, abs=0.001)
            assert busy.value.since == pytest.approx(since, abs=0.001)
        model.answer.set()
        assert slow.result().last_result.text == "answer to slow"
    assert texts(Chat, session)[2:] == ["slow", "answer to slow"]
    assert stored(session)["revision"] >= 2 + 2 + 8
    assert stored(session)["messages"] == slow.result().context["messages"]
    assert not heartbeat._heart.calls


SLOW = """
import sys
from agentsession.provider import Reply
from tests.models import chat_model, open_database

class WaitsForALine:
    def ask(self, request):
        print("asked", flush=True)
        sys.stdin.readline()
        return Reply("at last")

url, key = sys.argv[1:]
Chat = chat_model(open_database(url), provider=WaitsForALine(), session={"lease": 1.0}, create=False)
print(Chat.continue_session(key, "slow").last_turn.status)
"""


def test_a_process_whose_call_outlasts_its_lease_keeps_its_claim(database: Any) -> None:
    Chat = chat_model(database, session={"lease": 1.0})
    session = Chat.start_session("Hello")
    command = [sys.executable, "-c", SLOW, database.url, str(session.id)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "asked\n"
        first = last = until_of(Chat, session)
        while last < first + 2.0:
            last = eventually(partial(grown, Chat, session, last))
            with pytest.raises(SessionBusy):
                session.continue_session("other")
        child.stdin.write("answer\n")
        child.stdin.flush()
        assert child.stdout.readline() == "completed\n"
    assert texts(Chat, session)[2:] == ["slow", "at last"]


def test_one_daemon_thread_serves_all_calls_of_the_process(database_url: str, at: clock.FakeClock) -> None:
    model, before = Waits(), set(threading.enumerate())
    Chat = chat_model(servers.open_database(database_url), provider=model, session=SHORT)
    keys = [Chat.start_session("Hello").id for _ in range(4)]
    with ExitStack() as turns:
        slow = [turns.enter_context(a_slow_turn(Chat, key, model, at)) for key in keys]
        at.advance(100)
        for key in keys:
            extended(Chat, key, at)
        assert len(heartbeat._heart.calls) == 4
        heart = heartbeat._heart.thread
        assert heart is not None
        assert heart.daemon
        beating = [each for each in threading.enumerate() if each.name == heart.name and each not in before]
        assert set(beating) <= {heart}
        model.answer.set()
        assert {turn.result().last_result.text for turn in slow} == {"answer to slow"}
    assert not heartbeat._heart.calls


FORKS = """
import os, sys
from agentsession.drive import heartbeat
from agentsession.provider import Reply
from tests.models import chat_model, open_database
from tests.test_heartbeat import eventually, until_of

url, *keys = sys.argv[1:]

class Forks:
    def ask(self, request):
        name = request.view[-1].content
        Chat, key = model_of(self), keys[name == "child"]
        first = until_of(Chat, key)
        eventually(lambda: until_of(Chat, key) > first)
        if name == "parent":
            pid = os.fork()
            if pid == 0:
                try:
                    print("new", heartbeat._heart.thread, len(heartbeat._heart.calls), flush=True)
                    model_of(self).continue_session(keys[1], "child")
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            second = until_of(Chat, key)
            eventually(lambda: until_of(Chat, key) > second)
        print(name, len(heartbeat._heart.calls), heartbeat._heart.thread.is_alive(), flush=True)
        return Reply("done")

def model_of(provider):
    return chat_model(open_database(url), provider=provider, session={"lease": 0.3}, create=False)

model_of(Forks()).continue_session(keys[0], "parent")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_heartbeat_of_its_own(database: Any) -> None:
    Chat = chat_model(database)
    keys = [Chat.start_session("Hello").id for _ in range(2)]
    command = [sys.executable, "-c", FORKS, database.url, *map(str, keys)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.stdout.splitlines() == ["new None 0", "child 1 True", "parent 1 True"]
    assert [texts(Chat, key)[2:] for key in keys] == [["parent", "done"], ["child", "done"]]


def test_an_error_of_the_database_in_a_beat_is_survived_and_told_without_content(
    database: Any, at: clock.FakeClock, caplog: pytest.LogCaptureFixture
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
    assert re.fullmatch(r"a lease could not be extended: \w+Error", records[0].getMessage())
    assert not records[0].exc_info


def test_the_beat_stops_once_the_claim_is_lost(database: Any, at: clock.FakeClock) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model, session=SHORT)
    session = Chat.start_session("Hello")
    with a_slow_turn(Chat, session.id, model, clock.FakeClock(at.seconds)) as slow:
        at.advance(3600)
        session.continue_session("other")
        before = stored(session)
        eventually(lambda: not heartbeat._heart.calls)
        model.answer.set()
        with pytest.raises(LeaseLost):
            slow.result()
    assert stored(session) == before


def test_who_saw_the_lease_run_out_before_a_beat_came_is_refused(database: Any, at: clock.FakeClock) -> None:
    model, effects = Waits(), list[str]()
    Chat = chat_model(database, provider=model, session=SHORT)
    session, holder = Chat.start_session("Hello"), clock.FakeClock(at.seconds)

    def a_beat_comes(effect: Any) -> None:
        effects.append(type(effect).__name__)
        if effects == ["Load"]:
            holder.seconds = at.seconds
            extended(Chat, session.id, at)

    with a_slow_turn(Chat, session.id, model, holder) as slow:
        at.advance(10)
        token = after_effect.set(a_beat_comes)
        with pytest.raises(SessionBusy):
            session.continue_session("other")
        after_effect.reset(token)
        model.answer.set()
        assert slow.result().last_result.text == "answer to slow"
    assert effects == ["Load", "Prepare", "Claim", "Load"]


class Counts:
    """A model that ends as it is told, and counts the calls that are kept alive while it is asked."""

    def __init__(self, ending: BaseException | None = None) -> None:
        self.ending = ending
        self.calls: list[int] = []

    def ask(self, request: Any) -> Reply:
        self.calls.append(len(heartbeat._heart.calls))
        if self.ending is not None:
            raise self.ending
        return Reply("ok")


@pytest.mark.parametrize("ending", [None, ProviderError("down"), KeyboardInterrupt()], ids=str)
def test_the_beat_ends_with_the_call_however_that_ends(database: Any, ending: BaseException | None) -> None:
    model = Counts(ending)
    with pytest.raises((ProviderFailed, KeyboardInterrupt)) if ending else nullcontext():
        chat_model(database, provider=model, session=SHORT).start_session("Hello")
    assert model.calls == [1]
    assert not heartbeat._heart.calls


def test_where_no_other_connection_sees_the_row_there_is_no_beat(database: Any) -> None:
    model, memory = Counts(), pw.SqliteDatabase(":memory:")
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


@pytest.mark.parametrize("patience", [0, 20])
def test_a_pool_that_the_caller_has_emptied_does_not_break_the_turn(
    database_url: str, at: clock.FakeClock, patience: int, caplog: pytest.LogCaptureFixture
) -> None:
    """`patience`: how long the pool lets a beat wait for a connection."""
    pool = pooled(database_url)
    pool._wait_timeout = patience

    class TakesLong:
        def ask(self, request: Any) -> Reply:
            if request.view[-1].content == "slow":
                assert eventually(lambda: pool._pool_available._waiters if patience else caplog.records)
            return Reply("ok")

    Chat = chat_model(pool, provider=TakesLong(), session=SHORT)
    session = Chat.start_session("Hello")
    with pool.connection_context():
        assert session.continue_session("slow").last_turn.status == "completed"
        assert not pool.is_closed()
    eventually(lambda: not pool._in_use)
    assert session.continue_session("fast").last_turn.status == "completed"
    assert texts(Chat, session)[2:] == ["slow", "ok", "fast", "ok"]
    assert not heartbeat._heart.calls


class OfTheContext(pw._ConnectionState):
    """Connections that belong to a context and not to a thread, as async frameworks want them."""

    held: ContextVar[dict[str, Any] | None] = ContextVar("held", default=None)

    def __setattr__(self, name: str, value: Any) -> None:
        self.held.set((self.held.get() or {}) | {name: value})

    def __getattr__(self, name: str) -> Any:
        return (self.held.get() or vars(pw._ConnectionState()))[name]


@pytest.mark.parametrize("state", [OfTheContext, pw._ConnectionState])
def test_a_beat_never_uses_the_connection_of_its_caller(database: Any, state: type) -> None:
    """Where the threads have one connection together there is no beat, or it has another."""
    database._state, database.thread_safe = state(), state is OfTheContext
    caller, beats = threading.current_thread(), list[Any]()

    class WaitsForABeat:
        def ask(self, request: Any) -> Reply:
            if request.view[-1].content == "slow" and heartbeat._heart.calls:
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


class Counted(threading.Condition):
    """Remembers how long each wait was to be."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return super().wait(timeout)


def test_the_thread_sleeps_between_beats_and_without_calls() -> None:
    heart, changed, beats = heartbeat.Heart(), Counted(), list[float]()
    heart.changed = changed
    call = heartbeat.Call(lambda: beats.append(0.0) is None, 0.02, time.monotonic() + 0.02)
    heart.add(call)
    eventually(lambda: len(beats) >= 5)
    heart.drop(call)
    eventually(lambda: changed.waits[-1] > 50)
    assert len(changed.waits) <= 4 * len(beats) + 4
    slept = len(changed.waits)
    heart.add(heartbeat.Call(lambda: beats.append(1.0) is None, 1000.0, time.monotonic()))
    eventually(lambda: 1.0 in beats and len(changed.waits) > slept and changed.waits[-1] > 50)
    assert len(changed.waits) <= 4 * len(beats) + 8
    heart.calls.clear()


def test_a_very_long_lease_does_not_end_the_beats_of_others() -> None:
    """A thread can wait for some centuries at most."""
    heart, changed, beats = heartbeat.Heart(), Counted(), list[float]()
    heart.changed = changed
    heart.add(heartbeat.Call(lambda: True, 1e12, time.monotonic() + 1e12))
    eventually(lambda: changed.waits)
    heart.add(heartbeat.Call(lambda: beats.append(0.0) is None, 0.02, time.monotonic() + 0.02))
    eventually(lambda: len(beats) >= 2, limit=10)
    heart.calls.clear()


@pytest.mark.backends("sqlite")
def test_a_beat_that_waits_for_its_database_does_not_hold_up_those_of_another(
    database_url: str, at: clock.FakeClock, tmp_path: Path
) -> None:
    model, pool = Waits(), pooled(database_url)
    pool._wait_timeout = 600
    Stuck = chat_model(pool, session=SHORT, provider=model)
    Chat = chat_model(servers.open_database(tmp_path / "other.db"), provider=model, session=SHORT)
    stuck, session = Stuck.start_session("Hello"), Chat.start_session("Hello")

    def turn() -> None:
        clock.fake.set(at)
        with pool.connection_context():
            stuck.continue_session("slow")

    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(turn)
        eventually(lambda: pool._pool_available._waiters)
        model.asked.acquire()
        try:
            with a_slow_turn(Chat, session.id, model, at):
                first = until_of(Chat, session.id)
                at.advance(1)
                eventually(partial(grown, Chat, session.id, first), limit=10)
        finally:
            model.answer.set()
        waiting.result()
