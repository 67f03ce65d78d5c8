"""An exception that a signal handler raises in the main thread stops the turn, whatever its type."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from agentsession import TurnError, actions, agent, testing
from agentsession._store.session_store import StoredSession
from agentsession.provider import Delta, Reply, ToolCall
from tests.support.models import chat_model, open_database

INTERRUPTED = TurnError("TimeLimit", "the caller stopped the turn")


class TimeLimit(Exception):
    """Stands for Celery's SoftTimeLimitExceeded and RQ's JobTimeoutException."""


def as_function(number: int, frame: Any) -> None:
    raise TimeLimit


def call_another_function(reason: str, number: int, frame: Any) -> None:
    as_function(number, frame)


class Handler:
    def method(self, number: int, frame: Any) -> None:
        raise TimeLimit

    def __call__(self, number: int, frame: Any) -> None:
        raise TimeLimit


HANDLERS: dict[str, Callable[[int, Any], None]] = {
    "function": as_function,
    "method": Handler().method,
    "object": Handler(),
    "partial": partial(call_another_function, "a reason"),
}


@pytest.fixture(params=["function"])
def handler(request: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, HANDLERS[request.param])
    yield
    signal.signal(signal.SIGUSR1, before)


def interrupt_here(*_: Any) -> None:
    signal.raise_signal(signal.SIGUSR1)


def interrupt_the_main_thread() -> None:
    """Send the signal while the main thread waits, and give it time to be interrupted."""
    time.sleep(0.2)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    time.sleep(0.2)


class InterruptedProvider:
    """A provider that is interrupted by a signal."""

    def ask(self, request: Any) -> Reply:
        interrupt_here()
        return Reply("never")

    def stream(self, request: Any) -> Iterator[Delta | Reply]:
        yield Delta("half ")
        interrupt_the_main_thread()
        yield Delta("and more")
        time.sleep(0.2)
        yield Reply("half and more")


def run(Chat: Any, way: str, action: str, *arguments: Any) -> None:
    if way == "plain":
        getattr(Chat, action)(*arguments)
        return
    with getattr(Chat, f"stream_{action}")(*arguments) as stream:
        for _ in stream:
            pass


@pytest.mark.matrix
@pytest.mark.parametrize("way", ["plain", "stream"])
def test_a_signal_during_a_model_call_interrupts_the_turn(database: Any, handler: None, way: str) -> None:
    Chat = chat_model(database, provider=InterruptedProvider())
    session = chat_model(database, create=False).start_session("One")
    with pytest.raises(TimeLimit):
        run(Chat, way, "continue_session", session.id, "Two")
    selected = Chat.get_by_id(session.id)
    assert (selected.status, selected.last_turn.error) == ("interrupted", INTERRUPTED)
    messages = [message.text for message in Chat.get_context(session.id).messages][2:]
    assert messages[0] == "Two"
    assert messages[1:] in ([], ["half "], ["half and more"])
    with testing.script(Chat, ["ok"]):
        assert Chat.resume_session(session.id).last_turn.status == "completed"


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
@pytest.mark.parametrize("handler", HANDLERS, indirect=True)
def test_a_signal_handler_of_any_form_interrupts_the_turn(database: Any, handler: None) -> None:
    Chat = chat_model(database, provider=InterruptedProvider())
    with pytest.raises(TimeLimit):
        Chat.start_session("One")
    assert Chat.get().last_turn.error == INTERRUPTED


def script_of_a_tool_call(Chat: Any) -> Any:
    return testing.script(Chat, [Reply("", calls=(ToolCall("work", "{}"),))])


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize("way", ["plain", "stream"])
def test_a_signal_while_a_tool_runs_in_its_thread_interrupts_the_turn(
    database: Any, handler: None, way: str
) -> None:
    def work() -> str:
        """Work."""
        interrupt_the_main_thread()
        return "worked"

    Chat = chat_model(database, tools=[work])
    with script_of_a_tool_call(Chat), pytest.raises(TimeLimit):
        run(Chat, way, "start_session", "One")
    assert Chat.get().last_turn.error == INTERRUPTED


def test_a_signal_while_a_tool_runs_on_the_callers_thread_interrupts_the_turn(handler: None) -> None:
    def work() -> str:
        """Work."""
        interrupt_here()
        return "never"

    Chat = chat_model(open_database("sqlite:///:memory:"), create=False, tools=[work])
    with Chat._meta.database.connection_context():
        Chat.create_table()
        with script_of_a_tool_call(Chat), pytest.raises(TimeLimit):
            Chat.start_session("One")
        assert Chat.get().last_turn.error == INTERRUPTED


@pytest.mark.backends("sqlite")
def test_a_signal_in_a_function_of_the_application_interrupts_the_turn(database: Any, handler: None) -> None:
    Chat = chat_model(database, session={"history": interrupt_here})
    with pytest.raises(TimeLimit):
        Chat.start_session("One")
    assert Chat.get().last_turn.error == INTERRUPTED


@pytest.mark.backends("sqlite")
def test_a_signal_while_the_partial_reply_is_stored_interrupts_the_turn(
    database: Any, handler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Chat = chat_model(database)
    monkeypatch.setattr(StoredSession, "extend", interrupt_here)
    with testing.script(Chat, [("half ", "and ", "more")]), pytest.raises(TimeLimit):
        run(Chat, "stream", "start_session", "One")
    assert Chat.get().last_turn.error == INTERRUPTED


def test_a_signal_during_the_preparation_of_a_provider_is_raised_unchanged(handler: None) -> None:
    class NotReady(InterruptedProvider):
        def prepare(self) -> None:
            interrupt_here()

    @agent(client="slow:x", instruction="You help.", provider=NotReady())
    class Caller:
        pass

    with pytest.raises(TimeLimit):
        actions.call(Caller, "One")


@pytest.mark.backends("sqlite")
def test_the_next_call_can_resume_a_turn_whose_write_was_interrupted_by_a_signal(
    database: Any, handler: None
) -> None:
    class Interrupted(type(database)):  # type: ignore[misc]
        armed = False

        def execute_sql(self, sql: str, *arguments: Any, **keywords: Any) -> Any:
            if self.armed and sql.lower().startswith("update"):
                self.armed = False
                interrupt_here()
            return super().execute_sql(sql, *arguments, **keywords)

    database.__class__ = Interrupted
    Chat = chat_model(database)

    class ArmsTheDatabase:
        def ask(self, request: Any) -> Reply:
            database.armed = True
            return Reply("lost")

    with pytest.raises(TimeLimit):
        chat_model(database, create=False, provider=ArmsTheDatabase()).start_session("One")
    assert database.is_closed()
    session = Chat.get()
    with testing.clock() as clock:
        clock.advance(31)
        assert Chat.resume_session(session.id).last_turn.status == "completed"
