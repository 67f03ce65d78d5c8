"""A stream that is not read: its turn ends with the reply of the provider, and the events are kept."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from agentsession import (
    ProviderFailed,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnFinished,
    TurnStarted,
    agent,
    testing,
)
from agentsession._drive import feed
from agentsession.provider import Delta, Reply
from tests.support import servers
from tests.support.cancellation import WORDS
from tests.support.lease_watch import eventually
from tests.support.models import chat_model
from tests.support.slow_replies import (
    HALF,
    SAID,
    WHOLE,
    AsyncHalves,
    Halves,
    ahalf_of,
    half_of,
    is_completed,
    is_interrupted,
    settled,
)

LEASE = {"lease": 0.9}


@pytest.fixture(autouse=True)
def reader_times_out_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "READER_WAIT", 0.1)


def status_of(Chat: Any) -> str:
    return str(Chat.select(Chat.status).get().status)


def text_of(events: list[Any]) -> str:
    return "".join(each.text for each in events if isinstance(each, TextDelta))


async def aeventually(happened: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not happened():
            await asyncio.sleep(0.01)


def test_an_unread_turn_is_completed(database: Any) -> None:
    model = Halves()
    Chat = chat_model(database, provider=model, session=LEASE)
    with Chat.stream_start_session(WORDS) as stream:
        half_of(stream)
        model.goes_on.set()
        eventually(lambda: status_of(Chat) == "completed")
        assert is_completed(Chat.get_context(stream.session), WORDS)
        rest = list(stream)
    assert text_of(rest) == ""
    assert isinstance(rest[-1], TurnFinished)
    assert stream.result.text == WHOLE
    assert stream.session.last_result.text == WHOLE
    assert list(stream) == []


@pytest.mark.parametrize("provider", [Halves, AsyncHalves])
def test_an_unread_turn_is_completed_on_a_loop(database: Any, provider: Any) -> None:
    model = provider()
    Chat = chat_model(database, provider=model, session=LEASE)

    async def scenario() -> Any:
        async with Chat.astream_start_session(WORDS) as stream:
            await ahalf_of(stream)
            model.goes_on.set()
            await aeventually(lambda: status_of(Chat) == "completed")
            rest = [event async for event in stream]
        assert [type(each) for each in rest] == [TurnFinished]
        assert stream.result.text == WHOLE
        return stream.session

    assert is_completed(Chat.get_context(asyncio.run(scenario())), WORDS)


def test_an_unread_turn_is_completed_on_an_asynchronous_database(database_url: str) -> None:
    model, db = AsyncHalves(), servers.open_async_database(database_url)

    async def scenario() -> None:
        Chat = await db.run(chat_model, db, provider=model, session=LEASE)
        try:
            async with Chat.astream_start_session(WORDS) as stream:
                await ahalf_of(stream)
                model.goes_on.set()
                async with asyncio.timeout(60):
                    while (await Chat.aget_context(stream.session)).turn.status == "running":
                        await asyncio.sleep(0.01)
                assert is_completed(await Chat.aget_context(stream.session), WORDS)
                assert [type(event) async for event in stream] == [TurnFinished]
        finally:
            await db.close_pool()

    asyncio.run(scenario())


def test_tools_run_in_an_unread_turn(database: Any) -> None:
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    Chat = chat_model(database, tools=[add], session=LEASE)
    replies = [testing.tool_call("add", a=1, b=2), ("it ", "is ", "three"), "unused"]
    with testing.script(Chat, replies[:2]), Chat.stream_start_session("1 + 2?") as stream:
        while not isinstance(next(stream), ToolStarted):
            pass
        eventually(lambda: status_of(Chat) == "completed")
        rest = list(stream)
    assert [type(each) for each in rest if not isinstance(each, TextDelta)] == [ToolFinished, TurnFinished]
    assert text_of(rest) == "it is three"


class Fails(Halves):
    def stream(self, request: Any) -> Iterator[Delta | Reply]:
        yield Delta("half ")
        assert self.goes_on.wait(60)
        raise ConnectionError("down")


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_a_reader_that_continues_gets_the_error_of_a_failed_turn(database: Any, on_a_loop: bool) -> None:
    model = Fails()
    Chat = chat_model(database, provider=model, session=LEASE)

    def is_failed() -> bool:
        model.goes_on.set()
        return status_of(Chat) == "failed"

    async def follow() -> None:
        async with Chat.astream_start_session(WORDS) as stream:
            assert isinstance(await anext(stream), TurnStarted)
            assert (await anext(stream)).text == "half "
            await aeventually(is_failed)
            await anext(stream)

    with pytest.raises(ProviderFailed, match="down"):
        if on_a_loop:
            asyncio.run(follow())
        else:
            with Chat.stream_start_session(WORDS) as stream:
                assert isinstance(next(stream), TurnStarted)
                assert next(stream).text == "half "
                eventually(is_failed)
                next(stream)


def test_a_reader_that_continues_receives_each_event_when_it_arrives(database: Any) -> None:
    model = Halves()
    Chat = chat_model(database, provider=model, session=LEASE)
    with Chat.stream_start_session(WORDS) as stream:
        assert isinstance(next(stream), TurnStarted)
        assert next(stream).text == HALF[0]
        eventually(lambda: stream._events._thread)
        assert next(stream).text == HALF[1]
        threading.Timer(0.2, model.goes_on.set).start()
        assert isinstance(next(stream), TurnFinished)


def test_closing_an_unread_stream_interrupts_its_turn(database: Any) -> None:
    model = Halves()
    Chat = chat_model(database, provider=model, session=LEASE)
    with Chat.stream_start_session(WORDS) as stream:
        half_of(stream)
        eventually(lambda: stream._events._thread)
    assert is_interrupted(Chat.get_context(stream.session), WORDS, SAID, "StreamClosed")
    assert list(stream) == []
    model.goes_on.set()
    settled(lambda: model.closed == model.streams == 1)


@pytest.mark.parametrize("way", ["close", "cancel", "loop ends"])
def test_leaving_an_unread_async_stream_interrupts_its_turn(database: Any, way: str) -> None:
    model = AsyncHalves()
    Chat = chat_model(database, provider=model, session=LEASE)

    async def follow(is_waiting: asyncio.Event) -> None:
        stream = await Chat.astream_start_session(WORDS)
        await ahalf_of(stream)
        await aeventually(lambda: stream._events._task)
        if way == "close":
            await stream.aclose()
            assert [event async for event in stream] == []
        elif way == "cancel":
            is_waiting.set()
            await anext(stream)
        else:
            asyncio.get_running_loop().held = stream  # type: ignore[attr-defined]

    async def scenario() -> None:
        is_waiting = asyncio.Event()
        following = asyncio.create_task(follow(is_waiting))
        if way == "cancel":
            await is_waiting.wait()
            await asyncio.sleep(0)
            following.cancel()
        await asyncio.wait([following])
        if way != "loop ends":
            assert is_interrupted(await Chat.aget_context(Chat.select().get()), WORDS, SAID, "StreamClosed")

    asyncio.run(scenario())
    assert is_interrupted(Chat.get_context(Chat.select().get()), WORDS, SAID)
    settled(lambda: model.closed == model.streams == 1)


def test_closing_an_unread_stream_while_its_tool_runs_interrupts_its_turn(database: Any) -> None:
    may_end = threading.Event()

    def slow() -> int:
        """Takes its time."""
        may_end.wait(60)
        return 1

    Chat = chat_model(database, tools=[slow], session=LEASE)
    with testing.script(Chat, [testing.tool_call("slow")]):
        with Chat.stream_start_session(WORDS) as stream:
            while not isinstance(next(stream), ToolStarted):
                pass
            eventually(lambda: stream._events._thread)
            time.sleep(0.05)
    context = Chat.get_context(stream.session)
    assert (context.turn.status, context.turn.error.type) == ("interrupted", "StreamClosed")
    may_end.set()


def test_dropping_an_unread_stream_interrupts_its_turn(database: Any) -> None:
    model = Halves()
    Chat = chat_model(database, provider=model, session=LEASE)
    stream = Chat.stream_start_session(WORDS)
    half_of(stream)
    eventually(partial(getattr, stream._events, "_thread"))
    del stream
    gc.collect()
    eventually(lambda: status_of(Chat) == "interrupted")
    assert is_interrupted(Chat.get_context(Chat.select().get()), WORDS, SAID, "StreamClosed")
    model.goes_on.set()


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_a_stream_without_a_reader_does_not_call_the_model(database: Any, on_a_loop: bool) -> None:
    Chat = chat_model(database, session=LEASE)

    async def follow() -> None:
        async with Chat.astream_start_session(WORDS) as stream:
            checks = stream._events._timer
            await aeventually(lambda: stream._events._timer is not checks)
            assert stream._events._task is None

    with testing.script(Chat, []):
        if on_a_loop:
            asyncio.run(follow())
        else:
            with Chat.stream_start_session(WORDS) as stream:
                time.sleep(0.2)
                stream._events._check()
                assert stream._events._thread is None
    assert is_interrupted(Chat.get_context(Chat.select().get()), WORDS, "")


class Endless:
    """Never ends by itself, and yields its pieces without waiting for the reader."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def ask(self, request: Any) -> Reply:
        raise AssertionError("the reply was not streamed")

    def stream(self, request: Any) -> Iterator[Delta]:
        try:
            while True:
                yield Delta("word ")
                time.sleep(0.001)
        finally:
            self.stopped.set()


class AsyncEndless(Endless):
    async def astream(self, request: Any) -> AsyncIterator[Delta]:
        try:
            while True:
                yield Delta("word ")
                await asyncio.sleep(0.001)
        finally:
            self.stopped.set()


@pytest.mark.parametrize("provider", [Endless, AsyncEndless])
def test_an_endless_unread_reply_of_a_single_call_ends_with_the_timeout(provider: Any) -> None:
    model = provider()

    @agent(client="x:y", instruction="You help.", provider=model, timeout=0.5)
    class Assistant: ...

    async def follow() -> None:
        async with Assistant.astream("all") as stream:  # type: ignore[attr-defined]
            await anext(stream)
            await anext(stream)
            await aeventually(model.stopped.is_set)

    if provider is AsyncEndless:
        asyncio.run(follow())
    else:
        with Assistant.stream("all") as stream:  # type: ignore[attr-defined]
            next(stream)
            next(stream)
            assert model.stopped.wait(60)
