"""Comments of a server-sent stream while its model or its tools are silent, so that no proxy ends it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing
from typing import Any

import pytest

from agentsession import testing
from agentsession._drive import feed, reply_pieces
from agentsession._drive.stream_events import Ping
from agentsession.actions import streams
from agentsession.contrib import flask as flask_routes
from agentsession.contrib._web import event_stream
from agentsession.events import Event
from agentsession.provider import Delta, Reply
from tests.support.models import chat_model
from tests.support.slow_replies import HALF, AsyncHalves, Halves, is_completed, is_interrupted
from tests.support.web_clients import fastapi_app, flask_app, owned_chat
from tests.support.web_servers import on_uvicorn, on_werkzeug, until
from tests.web.test_sse_disconnect import sent

PING = ": ping\n\n"
SOON = 0.01

Heard = Callable[[list[str]], bool]


def of_a_sync_stream(Chat: Any, heard: Heard, ping: float | None = SOON) -> list[str]:
    """The lines of a stream, until `heard` is true of them."""
    lines: list[str] = []
    with closing(Chat.stream_start_session("Hello").sse(ping=ping)) as source:
        for line in source:
            lines.append(line)
            if heard(lines):
                break
    return lines


def of_an_async_stream(Chat: Any, heard: Heard, ping: float | None = SOON) -> list[str]:
    async def follow() -> list[str]:
        lines: list[str] = []
        stream = await Chat.astream_start_session("Hello")
        async with aclosing(stream.sse(ping=ping)) as source:
            async for line in source:
                lines.append(line)
                if heard(lines):
                    break
        return lines

    return asyncio.run(follow())


KINDS = [(of_a_sync_stream, Halves), (of_an_async_stream, AsyncHalves), (of_an_async_stream, Halves)]


@pytest.fixture(params=KINDS, ids=["sync", "async", "async, in a thread"])
def kind(request: Any) -> Any:
    return request.param


def after_pings(lines: list[str], go_on: Callable[[], object]) -> bool:
    """Let the model go on after some pings, and read to the end."""
    if lines.count(PING) == 3:
        go_on()
    return False


def names(lines: list[str]) -> list[str]:
    """The events without the pings."""
    return [line.split("\n")[0].removeprefix("event: ") for line in lines if line != PING]


def test_pings_come_while_the_model_is_silent(kind: Any, database: Any) -> None:
    lines_of, make = kind
    model = make()
    Chat = chat_model(database, provider=model)
    lines = lines_of(Chat, lambda lines: after_pings(lines, model.goes_on.set))
    assert lines.count(PING) >= 3
    assert names(lines) == ["turn_started", *["text_delta"] * len(HALF), "turn_finished"]
    assert is_completed(Chat.get_context(Chat.get()), "Hello")


@pytest.mark.parametrize("is_async", [False, True])
def test_pings_come_while_a_tool_runs(kind: Any, database: Any, is_async: bool) -> None:
    lines_of, _ = kind
    goes_on = threading.Event()

    def look() -> str:
        """Look it up."""
        assert goes_on.wait(60)
        return "found"

    async def alook() -> str:
        """Look it up."""
        while not goes_on.is_set():
            await asyncio.sleep(0.005)
        return "found"

    Chat = chat_model(database, tools=[alook if is_async else look])
    call = testing.tool_call("alook" if is_async else "look")
    with testing.script(Chat, [call, "It is done."]):
        lines = lines_of(Chat, lambda lines: after_pings(lines, goes_on.set))
    started, finished = (names(lines).index(name) for name in ("tool_started", "tool_finished"))
    assert finished == started + 1
    assert lines.count(PING) >= 3
    assert names(lines)[-1] == "turn_finished"


def test_a_stream_that_is_left_at_a_ping_is_interrupted(kind: Any, database: Any) -> None:
    lines_of, make = kind
    model = make()
    Chat = chat_model(database, provider=model)
    lines = lines_of(Chat, lambda lines: names(lines).count("text_delta") == len(HALF) and lines[-1] == PING)
    model.goes_on.set()
    assert lines[-1] == PING
    assert is_interrupted(Chat.get_context(Chat.get()), "Hello")


LIMITS = {"timeout": "echo:: no complete reply within 0.3 s", "idle": "echo:: nothing more for 0.3 s"}


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize("limit", LIMITS)
def test_pings_keep_no_dead_model_alive(
    kind: Any, database: Any, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines_of, make = kind
    model = make()
    if limit == "idle":
        monkeypatch.setattr(reply_pieces, "IDLE", 0.3)
    Chat = chat_model(database, provider=model, timeout=0.3 if limit == "timeout" else 60)
    lines = lines_of(Chat, lambda _: False)
    model.goes_on.set()
    assert lines.count(PING) >= 3
    assert names(lines)[-1] == "stream_failed"
    turn = Chat.get_context(Chat.get()).turn
    assert (turn.status, turn.error.message) == ("failed", LIMITS[limit])


@pytest.mark.backends("sqlite")
def test_pings_come_for_a_reader_who_comes_back(
    kind: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn runs on without a reader then, and the reader waits for its events."""
    monkeypatch.setattr(feed, "READER_WAIT", 0.1)
    lines_of, make = kind
    model = make()
    Chat = chat_model(database, provider=model, session={"lease": 60})
    runs_on = {"feed": False}
    for each in (feed.Feed, feed.AsyncFeed):
        original = each._run_to_end

        def noted(self: Any, original: Any = original) -> Any:
            runs_on["feed"] = True
            return original(self)

        monkeypatch.setattr(each, "_run_to_end", noted)

    async def pause() -> None:
        while not runs_on["feed"]:
            await asyncio.sleep(0.01)

    async def afollow() -> list[str]:
        stream, lines = await Chat.astream_start_session("Hello"), []
        async with aclosing(stream.sse(ping=SOON)) as source:
            lines += [await anext(source), await anext(source)]
            await pause()
            async for line in source:
                lines.append(line)
                after_pings(lines, model.goes_on.set)
        return lines

    def follow() -> list[str]:
        source = Chat.stream_start_session("Hello").sse(ping=SOON)
        lines = [next(source), next(source)]
        until(lambda: runs_on["feed"])
        for line in source:
            lines.append(line)
            after_pings(lines, model.goes_on.set)
        return lines

    lines = follow() if lines_of is of_a_sync_stream else asyncio.run(afollow())
    assert lines.count(PING) >= 3
    assert names(lines)[-1] == "turn_finished"
    assert is_completed(Chat.get_context(Chat.get()), "Hello")


@pytest.mark.backends("sqlite")
def test_a_stream_without_pings_has_none(kind: Any, database: Any) -> None:
    lines_of, make = kind
    model = make()
    Chat = chat_model(database, provider=model)
    timer = threading.Timer(0.2, model.goes_on.set)
    timer.start()
    assert PING not in lines_of(Chat, lambda _: False, None)
    timer.join()


@pytest.mark.backends("sqlite")
def test_an_iterated_stream_has_no_pings(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PING_SECONDS", SOON)
    model = Halves()
    timer = threading.Timer(0.2, model.goes_on.set)
    timer.start()
    events: list[Event] = list(chat_model(database, provider=model).stream_start_session("Hello"))
    timer.join()
    assert not any(isinstance(event, Ping) for event in events)


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize("ping", [0, -1.0, float("nan")])
def test_a_ping_that_is_no_time_is_refused(kind: Any, database: Any, ping: float) -> None:
    lines_of, make = kind
    Chat = chat_model(database, provider=make(goes_on=True))
    with pytest.raises(ValueError, match="above 0"):
        lines_of(Chat, lambda _: False, ping)
    assert Chat.get().status == "interrupted"


SERVED = {"fastapi": (fastapi_app, on_uvicorn), "flask": (flask_app, on_werkzeug)}


@pytest.fixture(params=SERVED)
def served(request: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for each in (flask_routes, event_stream):
        monkeypatch.setattr(each, "PING", SOON)
    return SERVED[request.param]


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
def test_streams_of_the_routes_have_pings(served: Any, database: Any) -> None:
    make, on_a_server = served
    model = AsyncHalves()
    with on_a_server(make(owned_chat(database, provider=model))) as port:
        with closing(sent(port, "/stream", "Hello")) as connection:
            response = connection.getresponse()
            lines = []
            while lines.count(b": ping\n") < 3:
                lines.append(response.readline())
            model.goes_on.set()
            rest = response.read().decode()
    assert "event: turn_finished\n" in rest


class Mute:
    """A model that says one word and then nothing, until it is closed."""

    def __init__(self) -> None:
        self.ends = threading.Event()

    def ask(self, request: Any) -> Reply:
        raise AssertionError("it is streamed")

    def stream(self, request: Any) -> Iterator[Delta | Reply]:
        yield Delta("one")
        assert self.ends.wait(60)

    async def astream(self, request: Any) -> AsyncIterator[Delta | Reply]:
        yield Delta("one")
        await asyncio.sleep(60)


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
def test_a_client_that_hangs_up_while_the_model_is_silent_is_noticed(served: Any, database: Any) -> None:
    """A WSGI server notices it with the next ping."""
    make, on_a_server = served
    model = Mute()
    Chat = owned_chat(database, provider=model)
    with on_a_server(make(Chat)) as port:
        with closing(sent(port, "/stream", "Hello")) as connection, connection.getresponse() as response:
            while response.readline() != b": ping\n":
                pass
        row = until(lambda: Chat.get_or_none(Chat.status != "running"))
        model.ends.set()
    assert row.status == "interrupted"
