"""Leaving a stream ends its turn: the partial reply is stored once, and the provider request is closed."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentsession import NoResult, TurnFinished, TurnStarted, testing
from agentsession.provider import Delta
from tests.support import servers
from tests.support.cancellation import WORDS
from tests.support.lossy_databases import Fault, and_stays_away, is_not_stored, losing
from tests.support.models import chat_model, kept, let_the_lease_run_out, stored
from tests.support.slow_replies import (
    SAID,
    WHOLE,
    AsyncHalves,
    Halves,
    Left,
    ahalf_of,
    half_of,
    is_completed,
    is_interrupted,
    settled,
)

# Ways to leave a stream. Each takes an unread stream.


def by_the_end_of_its_block(stream: Any) -> None:
    with stream:
        half_of(stream)


def by_an_error(stream: Any) -> None:
    with pytest.raises(Left), stream:
        half_of(stream)
        raise Left


def by_ctrl_c(stream: Any) -> None:
    with pytest.raises(KeyboardInterrupt), stream:
        half_of(stream)
        raise KeyboardInterrupt


def by_closing_it(stream: Any) -> None:
    half_of(stream)
    for _ in range(2):
        stream.close()
    assert list(stream) == []


def by_closing_its_sse(stream: Any) -> None:
    with closing(stream.sse()) as lines:
        deltas = 0
        for line in lines:
            deltas += line.startswith("event: text_delta")
            if deltas == 2:
                return


def by_dropping_it(stream: Any) -> None:
    half_of(stream)


WAYS = [by_the_end_of_its_block, by_an_error, by_ctrl_c, by_closing_it, by_closing_its_sse, by_dropping_it]


@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize("action", ["start", "continue", "resume"])
def test_leaving_a_stream_stores_the_partial_reply(
    tmp_path: Path, action: str, leave: Callable[[Any], None]
) -> None:
    model = Halves()
    Chat = chat_model(servers.open_database(tmp_path / "chat.db"), provider=model)
    key = act_on_stream(Chat, action, lambda make, *arguments: leave(make(*arguments)))
    after = stored(Chat.get_by_id(key))
    assert is_interrupted(Chat.get_context(key), WORDS, SAID, "StreamClosed")
    model.goes_on.set()
    settled(lambda: model.closed == model.streams == 1)
    gc.collect()
    assert stored(Chat.get_by_id(key)) == after
    assert Chat.resume_session(key).last_result.text == WHOLE
    assert is_completed(Chat.get_context(key), WORDS)


def act_on_stream(Chat: Any, action: str, act: Callable[..., None]) -> Any:
    """Call `act` with a stream of this action and return the key of its session."""
    if action == "start":
        act(Chat.stream_start_session, WORDS)
        return Chat.get().id
    session = Chat.start_session("fast, before")
    if action == "continue":
        act(Chat.stream_continue_session, session.id, WORDS)
    else:
        session.continue_session(WORDS, run=False)
        act(Chat.stream_resume_session, session.id)
    return session.id


def test_leaving_a_stream_interrupts_its_turn_on_each_database(database: Any) -> None:
    model = Halves()
    Chat = chat_model(database, provider=model)
    session = Chat.start_session("fast, before")
    with session.stream_continue_session(WORDS) as stream:
        half_of(stream)
    assert is_interrupted(Chat.get_context(session), WORDS)
    assert stream.session.last_turn.status == "interrupted"
    assert session.context | {"revision": 0} == kept(session) | {"revision": 0}
    with pytest.raises(NoResult):
        stream.result
    model.goes_on.set()


@pytest.fixture
def Chat(tmp_path: Path) -> Any:
    return chat_model(servers.open_database(tmp_path / "chat.db"), provider=AsyncHalves())


def test_a_stream_closed_before_its_first_event_does_not_call_the_model(Chat: Any) -> None:
    stream = Chat.stream_start_session(WORDS)
    assert stream.session.status == "running"
    stream.close()
    stream.close()
    assert list(stream) == []
    assert is_interrupted(Chat.get_context(stream.session), WORDS, "")
    with testing.script(Chat, []):
        Chat.stream_start_session(WORDS).close()


def test_a_stream_left_at_its_first_event_does_not_call_the_model(Chat: Any) -> None:
    with testing.script(Chat, []), Chat.stream_start_session(WORDS) as stream:
        assert isinstance(next(stream), TurnStarted)
    assert is_interrupted(Chat.get_context(stream.session), WORDS, "")


@pytest.mark.parametrize("last", [False, True])
def test_a_stream_closed_after_its_end_stays_completed(Chat: Any, last: bool) -> None:
    stream = Chat.stream_start_session("fast")
    for event in stream:
        if isinstance(event, TurnFinished) and not last:
            break
    before = stored(stream.session)
    stream.close()
    stream.close()
    assert list(stream) == []
    assert stream.result.text == WHOLE
    assert stored(stream.session) == before
    assert is_completed(Chat.get_context(stream.session), "fast")


def test_a_stream_closed_after_an_error_stays_failed(Chat: Any) -> None:
    session = Chat.start_session("fast")
    with testing.script(Chat, [("half", ValueError("down"))]), pytest.raises(Exception, match="down"):
        with session.stream_continue_session(WORDS) as stream:
            for _ in stream:
                pass
    before = stored(session)
    stream.close()
    assert list(stream) == []
    assert (stored(session), before["turn"]["status"]) == (before, "failed")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_in_the_provider_reaches_the_reader_of_the_stream(
    Chat: Any, stop: type[BaseException]
) -> None:
    with testing.script(Chat, [("half ", "a reply", stop())]), pytest.raises(stop):
        with Chat.stream_start_session(WORDS) as stream:
            for _ in stream:
                pass
    assert is_interrupted(Chat.get_context(stream.session), WORDS, SAID, stop.__name__)


class Endless(Halves):
    """Streams one word after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = threading.Event()

    def stream(self, request: Any) -> Iterator[Delta]:
        try:
            while True:
                yield Delta("word ")
                time.sleep(0.001)
        finally:
            self.stopped.set()


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_leaving_a_stream_stops_an_endless_provider(tmp_path: Path, on_a_loop: bool) -> None:
    model = Endless()
    Chat = chat_model(servers.open_database(tmp_path / "chat.db"), provider=model)

    async def follow() -> None:
        async with Chat.astream_start_session(WORDS) as stream:
            await anext(stream)
            await anext(stream)

    if on_a_loop:
        asyncio.run(follow())
    else:
        with Chat.stream_start_session(WORDS) as stream:
            assert isinstance(next(stream), TurnStarted)
            next(stream)
    assert model.stopped.wait(20)
    context = Chat.get_context(Chat.get().id)
    assert is_interrupted(context, WORDS, context.messages[1].text, "StreamClosed")


def test_a_stream_collected_in_a_reference_cycle_is_interrupted(Chat: Any) -> None:
    stream = Chat.stream_start_session(WORDS)
    half_of(stream)
    stream.itself = stream
    del stream
    gc.collect()
    assert is_interrupted(Chat.get_context(Chat.get().id), WORDS)


# Other faults.


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_an_exception_in_the_body_of_a_stream_is_raised_although_the_database_is_away(
    tmp_path: Path, on_a_loop: bool, caplog: pytest.LogCaptureFixture
) -> None:
    database = losing(servers.open_database(tmp_path / "chat.db"))
    model = AsyncHalves()
    Chat = chat_model(database, provider=model)
    session = Chat.start_session("fast, before")

    def lose_the_database() -> None:
        database.fault = Fault(1, and_stays_away(is_not_stored))
        raise Left

    async def follow() -> None:
        async with session.astream_continue_session(WORDS) as stream:
            await ahalf_of(stream)
            lose_the_database()

    with pytest.raises(Left):
        if on_a_loop:
            asyncio.run(follow())
        else:
            with session.stream_continue_session(WORDS) as stream:
                half_of(stream)
                lose_the_database()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(f"{session.id} turn" in line and "the turn ended: not stored" in line for line in warnings)
    database.fault = None
    model.goes_on.set()
    let_the_lease_run_out(Chat, session.id)
    assert session.resume_session().last_result.text == WHOLE
    assert is_completed(Chat.get_context(session), WORDS)


CTRL_C = """
import asyncio, sys
from tests.support.slow_replies import AsyncHalves, half_of
from tests.support.models import chat_model, open_database

class AnnouncingHalves(AsyncHalves):
    def ask(self, request):
        print("asked", flush=True)
        return super().ask(request)

    async def may_go_on(self):
        print("asked", flush=True)
        await super().may_go_on()

path, way = sys.argv[1:]
Chat = chat_model(open_database(path), provider=AnnouncingHalves())

async def follow():
    async for _ in Chat.astream_start_session("tell me all"):
        pass

def stream():
    with Chat.stream_start_session("tell me all") as events:
        half_of(events)
        print("asked", flush=True)
        next(events)

ways = {
    "plain": lambda: Chat.start_session("tell me all"),
    "stream": stream,
    "async": lambda: asyncio.run(Chat.astart_session("tell me all")),
    "async_stream": lambda: asyncio.run(follow()),
}
try:
    ways[way]()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("way", ["plain", "stream", "async", "async_stream"])
def test_ctrl_c_during_a_model_call_interrupts_the_turn(tmp_path: Path, way: str) -> None:
    path = tmp_path / "chat.db"
    command = [sys.executable, "-c", CTRL_C, str(path), way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=60) == ("interrupted\n", "")
        finally:
            process.kill()
    Chat = chat_model(servers.open_database(path), create=False)
    (row,) = Chat.select()
    context = Chat.get_context(row)
    received = "".join(message.text for message in context.messages[1:])
    assert received == {"plain": "", "async": "", "stream": SAID}.get(way, received)
    assert SAID.startswith(received)
    why = {"plain": "KeyboardInterrupt", "stream": ""}.get(way, "CancelledError")  # "": between two pieces
    assert is_interrupted(context, WORDS, received, why)
