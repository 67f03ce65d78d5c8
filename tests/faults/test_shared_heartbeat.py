"""One thread beats for all calls of a process. It sleeps between beats, and no call delays another's beat."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentsession import _clock
from agentsession._drive import heartbeat
from agentsession._turn.effects import ClaimLost
from agentsession._workers import Workers
from tests.support import servers
from tests.support.blocked_turn import Waits, a_slow_turn
from tests.support.lease_watch import SHORT, eventually, extended, grown, until_of
from tests.support.models import chat_model, texts

pytestmark = pytest.mark.layouts("document")  # a beat writes the head, which is the same in both layouts


class RecordingCondition(threading.Condition):
    """Records the timeout of each wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return super().wait(timeout)


def ignored(_: Exception) -> None:
    """Do nothing: no claim is lost here, and no beat fails."""


def test_the_thread_sleeps_between_beats_and_without_calls() -> None:
    heart, condition, beats = heartbeat.Heart(), RecordingCondition(), list[float]()
    heart.condition = condition
    call = heartbeat.Beat(lambda: beats.append(0.0) is None, ignored, ignored, 0.02, time.monotonic() + 0.02)
    heart.add(call)
    eventually(lambda: len(beats) >= 5)
    heart.remove(call)
    eventually(lambda: condition.waits[-1] > 50)
    assert len(condition.waits) <= 4 * len(beats) + 4
    slept = len(condition.waits)
    heart.add(heartbeat.Beat(lambda: beats.append(1.0) is None, ignored, ignored, 1000.0, time.monotonic()))
    eventually(lambda: 1.0 in beats and len(condition.waits) > slept and condition.waits[-1] > 50)
    assert len(condition.waits) <= 4 * len(beats) + 8
    heart.beats.clear()


def test_a_very_long_lease_does_not_end_the_beats_of_others() -> None:
    """A thread cannot wait for longer than some centuries."""
    heart, condition, beats = heartbeat.Heart(), RecordingCondition(), list[float]()
    heart.condition = condition
    heart.add(heartbeat.Beat(lambda: True, ignored, ignored, 1e12, time.monotonic() + 1e12))
    eventually(lambda: condition.waits)
    heart.add(
        heartbeat.Beat(lambda: beats.append(0.0) is None, ignored, ignored, 0.02, time.monotonic() + 0.02)
    )
    eventually(lambda: len(beats) >= 2, limit=10)
    heart.beats.clear()


def test_one_daemon_thread_serves_all_calls_of_the_process(database_url: str, at: _clock.FakeClock) -> None:
    model, before = Waits(), set(threading.enumerate())
    Chat = chat_model(servers.open_database(database_url), provider=model, session=SHORT)
    keys = [Chat.start_session("Hello").id for _ in range(4)]
    with ExitStack() as turns:
        slow = [turns.enter_context(a_slow_turn(Chat, key, model, at)) for key in keys]
        at.advance(100)
        for key in keys:
            extended(Chat, key, at)
        assert len(heartbeat._heart.beats) == 4
        heart = heartbeat._heart.thread
        assert heart is not None
        assert heart.daemon
        beating = [each for each in threading.enumerate() if each.name == heart.name and each not in before]
        assert set(beating) <= {heart}
        model.answer.set()
        assert {turn.result().last_result.text for turn in slow} == {"answer to slow"}
    assert not heartbeat._heart.beats


FORKING_PROGRAM = """
import os, sys
from agentsession._drive import heartbeat
from agentsession._turn.effects import ClaimLost
from agentsession.provider import Reply
from tests.support.models import chat_model, open_database
from tests.support.lease_watch import eventually, until_of

url, *keys = sys.argv[1:]

class ForkingModel:
    def ask(self, request):
        name = request.prompt[-1].content
        Chat, key = model_of(self), keys[name == "child"]
        first = until_of(Chat, key)
        eventually(lambda: until_of(Chat, key) > first)
        if name == "parent":
            pid = os.fork()
            if pid == 0:
                try:
                    print("new", heartbeat._heart.thread, len(heartbeat._heart.beats), flush=True)
                    model_of(self).continue_session(keys[1], "child")
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            second = until_of(Chat, key)
            eventually(lambda: until_of(Chat, key) > second)
        print(name, len(heartbeat._heart.beats), heartbeat._heart.thread.is_alive(), flush=True)
        return Reply("done")

def model_of(provider):
    return chat_model(open_database(url), provider=provider, session={"lease": 0.3}, create=False)

model_of(ForkingModel()).continue_session(keys[0], "parent")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_its_own_heartbeat(database: Any) -> None:
    Chat = chat_model(database)
    keys = [Chat.start_session("Hello").id for _ in range(2)]
    command = [sys.executable, "-c", FORKING_PROGRAM, database.url, *map(str, keys)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.stdout.splitlines() == ["new None 0", "child 1 True", "parent 1 True"]
    assert [texts(Chat, key)[2:] for key in keys] == [["parent", "done"], ["child", "done"]]


@pytest.mark.backends("sqlite")
def test_a_beat_that_waits_for_its_database_does_not_delay_those_of_another(
    database_url: str, at: _clock.FakeClock, tmp_path: Path
) -> None:
    model, pool = Waits(), servers.open_database(database_url, pool=1)
    pool._wait_timeout = 600
    Stuck = chat_model(pool, session=SHORT, provider=model)
    Chat = chat_model(servers.open_database(tmp_path / "other.db"), provider=model, session=SHORT)
    stuck, session = Stuck.start_session("Hello"), Chat.start_session("Hello")

    def turn() -> None:
        _clock.fake.set(at)
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


def test_a_beat_after_the_end_of_its_call_reports_nothing() -> None:
    """The call itself may have ended or changed the claim."""
    heart, reports = heartbeat.Heart(), list[ClaimLost]()
    beats, removed = threading.Event(), threading.Event()

    def extend() -> bool:
        beats.set()
        return not removed.wait(10)

    call = heartbeat.Beat(extend, reports.append, ignored, 1000.0, time.monotonic() + 1000.0)
    heart.add(call)
    with ThreadPoolExecutor(1) as other:
        beat = other.submit(heart._call, call)
        assert beats.wait(10)
        heart.remove(call)
        removed.set()
        beat.result()
    assert reports == []


def refuse_threads(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Refuse threads of these names, as CPython does when the system has none left."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name in names:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_the_heartbeat_thread_does_the_beat_of_a_worker_that_cannot_start(
    database: Any, at: _clock.FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEATS", Workers("no-such-worker", 8))
    refuse_threads(monkeypatch, "no-such-worker")
    model = Waits()
    Chat = chat_model(database, provider=model, session=SHORT)
    session = Chat.start_session("Hello")
    with a_slow_turn(Chat, session.id, model, at):
        for _ in range(3):
            at.advance(100)
            extended(Chat, session.id, at)


def test_the_next_call_starts_a_heartbeat_that_could_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heart, beats, errors = heartbeat.Heart(), list[str](), list[Exception]()

    def call(name: str) -> heartbeat.Beat:
        extend = lambda: beats.append(name) is None  # noqa: E731
        return heartbeat.Beat(extend, ignored, errors.append, 0.02, time.monotonic() + 0.02)

    with monkeypatch.context() as patch:
        refuse_threads(patch, "agentsession-heartbeat")
        heart.add(call("first"))
    assert [type(error) for error in errors] == [RuntimeError]
    heart.add(call("second"))
    eventually(lambda: {"first", "second"} <= set(beats))
    heart.beats.clear()
