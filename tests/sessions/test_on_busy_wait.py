"""I2: a call that waits for a running turn holds no connection and continues when the turn ends."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentsession import SessionBusy, _clock, testing
from tests.support import servers
from tests.support.blocked_turn import Waits, a_slow_turn, by_the_clock
from tests.support.models import chat_model, roles, stored, texts

pytestmark = pytest.mark.matrix

PATIENT = {"on_busy": "wait", "busy_timeout": 120}


class Watch(_clock.FakeClock):
    """A clock that records when a turn waits, and how many connections were in use each time."""

    def __init__(self, database: Any, after: float = 0.0) -> None:
        super().__init__(time.time() + after)
        self.database = database
        self.waited = threading.Event()
        self.in_use: list[int] = []

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.in_use.append(len(self.database._in_use))
        self.waited.set()
        time.sleep(0.001)


def test_waiting_for_a_running_turn_holds_no_connection(database_url: str) -> None:
    database, model = servers.open_database(database_url, pool=1), Waits()
    Chat = chat_model(database, provider=model, session=PATIENT | {"busy_timeout": 1e9, "lease": 1e9})
    key = Chat.start_session("Hello").id
    watch = Watch(database)
    with a_slow_turn(Chat, key, model), ThreadPoolExecutor(1) as other:
        waits = other.submit(by_the_clock, watch, Chat.continue_session, key, "next")
        assert watch.waited.wait(60)
        in_use = list(watch.in_use)
        model.answer.set()
        assert waits.result().last_result.text == "answer to next"
    assert set(in_use) == {0}
    assert texts(Chat, key)[2:] == ["slow", "answer to slow", "next", "answer to next"]


def test_waiting_for_a_pending_turn_ends_after_a_worker_ran_it(database_url: str) -> None:
    database, model = servers.open_database(database_url, pool=2), Waits()
    Chat = chat_model(database, provider=model, session=PATIENT | {"busy_timeout": 1e9})
    session = Chat.start_session("First", run=False)
    watch = Watch(database)
    with ThreadPoolExecutor(1) as other:
        waits = other.submit(by_the_clock, watch, Chat.continue_session, session.id, "Second")
        assert watch.waited.wait(60)
        assert texts(Chat, session) == ["First"]
        Chat.resume_session(session.id)
        assert waits.result().last_result.text == "answer to Second"
    assert texts(Chat, session) == ["First", "answer to First", "Second", "answer to Second"]


def test_inside_a_transaction_an_action_does_not_wait(database_url: str) -> None:
    """The caller's locked row or snapshot stays the same until the transaction ends: waiting is useless."""
    database, model = servers.open_database(database_url, pool=3), Waits()
    Chat = chat_model(
        database, provider=model, session={"on_busy": "wait", "busy_timeout": 5, "lease": 1000.0}
    )
    key = Chat.start_session("Hello").id
    watch = Watch(database)

    def store() -> None:
        with database.atomic():
            Chat.continue_session(key, "later", run=False)

    with a_slow_turn(Chat, key, model) as slow, ThreadPoolExecutor(1) as other:
        with pytest.raises(SessionBusy):
            other.submit(by_the_clock, watch, store).result()
        model.answer.set()
        assert slow.result().last_result.text == "answer to slow"
    assert watch.in_use == []


def test_a_waiting_call_takes_over_when_the_lease_of_a_crashed_holder_expires(database: Any) -> None:
    Chat = chat_model(database, session=PATIENT | {"lease": 30.0})
    session = Chat.start_session("Hello")
    with testing.crash_after(2):
        session.continue_session("left behind")
    until = stored(session)["turn"]["until"]
    at = _clock.FakeClock(until - 3)
    with ThreadPoolExecutor(1) as other:
        other.submit(by_the_clock, at, Chat.continue_session, session.id, "next").result()
    assert until <= at.seconds < until + 1
    assert texts(Chat, session)[2:4] == ["left behind", "next"]


@pytest.mark.parametrize("session", [{}, {"on_busy": "wait", "busy_timeout": 0.05}], ids=["raise", "wait"])
def test_session_busy_has_the_start_and_the_lease_of_the_running_turn(database: Any, session: Any) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model, session={"lease": 1000.0} | session)
    key = Chat.start_session("Hello").id
    with a_slow_turn(Chat, key, model):
        before = stored(Chat.get_by_id(key))
        with pytest.raises(SessionBusy) as busy:
            Chat.continue_session(key, "next")
        assert stored(Chat.get_by_id(key)) == before
    assert busy.value.status == "running"
    assert (busy.value.since, busy.value.until) == (before["turn"]["since"], before["turn"]["until"])
    assert ("waited for 0." in str(busy.value)) is bool(session)
    assert roles(Chat, key) == ["user", "assistant"] * 2
