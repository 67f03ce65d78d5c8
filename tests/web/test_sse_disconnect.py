"""A client that hangs up in the middle of a stream, on real servers: the turn ends there, and the provider is
told to stop."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from agentsession._drive import feed
from agentsession.provider import Delta, Reply
from tests.support.blocked_turn import Waits
from tests.support.web_clients import ANN, Trickle, events, fastapi_app, flask_app, owned_chat
from tests.support.web_servers import on_uvicorn, on_werkzeug, until

# The layout makes no difference to the routes: test_leaving.py leaves turns in both.
pytestmark = [pytest.mark.backends("sqlite"), pytest.mark.layouts("document")]


def app_with_middleware(model: Any) -> Any:
    """Starlette then sends the response's body through a channel of its own."""
    app = fastapi_app(model)

    @app.middleware("http")
    async def passes_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return app


def app_of_asgi_2_4(model: Any) -> Any:
    """The server says that it tells of a client that has gone by an error of `send`."""
    app = fastapi_app(model)

    async def newer(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "asgi": {"version": "3.0", "spec_version": "2.4"}}, receive, send)

    return newer


@dataclass
class Served:
    """`listens`: the server tells of a client that has gone. WSGI servers notice when they send to it."""

    make: Callable[[Any], Any]
    on_a_server: Callable[[Any], AbstractContextManager[int]] = on_uvicorn
    listens: bool = True

    def __call__(self, model: Any) -> AbstractContextManager[int]:
        return self.on_a_server(self.make(model))


SERVED = {
    "uvicorn": Served(fastapi_app),
    "uvicorn, middleware": Served(app_with_middleware),
    "uvicorn, ASGI 2.4": Served(app_of_asgi_2_4),
    "werkzeug": Served(flask_app, on_werkzeug, listens=False),
}


@pytest.fixture(params=SERVED)
def served(request: Any) -> Served:
    return SERVED[request.param]


def sent(port: int, path: str, words: str, buffer: int = 0) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    if buffer:
        connection.sock = socket.socket()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.sock.settimeout(30)
        connection.sock.connect(("127.0.0.1", port))
    body, type = json.dumps({"message": words}), {"Content-Type": "application/json"}
    connection.request("POST", f"/chats{path}", body, ANN | type)
    return connection


class Reading:
    """A request whose reply is read event by event."""

    def __init__(self, port: int, path: str, buffer: int = 0) -> None:
        self.connection = sent(port, path, "Hello", buffer)
        self.response = self.connection.getresponse()

    def event(self) -> tuple[str, Any]:
        block = b""
        while not block.endswith(b"\n\n"):
            block += self.response.readline()
        return events(block.decode())[0]

    def close(self) -> None:
        self.response.close()
        self.connection.close()


def ended(Chat: Any) -> Any:
    """The only row, once its turn is no longer running."""
    return until(lambda: Chat.get_or_none(Chat.status != "running"))


def test_each_event_comes_at_once(database: Any, served: Served) -> None:
    model = Trickle("one ", "two ")
    with served(owned_chat(database, provider=model)) as port, closing(Reading(port, "/stream")) as reading:
        assert reading.event()[0] == "turn_started"
        for word in model.words:
            model.may.release()
            assert reading.event() == ("text_delta", {"type": "text_delta", "text": word})
        assert reading.event()[0] == "turn_finished"
        assert reading.response.read() == b""


def test_a_turn_whose_client_hangs_up_is_interrupted_with_what_had_come(
    database: Any, served: Served
) -> None:
    model = Trickle("one ", "two ", *["more "] * 100)
    Chat = owned_chat(database, provider=model)
    with served(Chat) as port:
        with closing(Reading(port, "/stream")) as reading:
            assert reading.event()[0] == "turn_started"
            for _ in range(2):
                model.may.release()
                reading.event()
        if not served.listens:
            model.may.release(20)
        row = ended(Chat)
        if not served.listens:
            model.may.release()  # a provider without coroutines is stopped at its next piece
        assert model.is_closed.wait(20)
    assert row.status == "interrupted"
    said, partial = Chat.get_context(row.id, actor="ann").messages
    assert (said.text, said.metadata["status"]) == ("Hello", "interrupted")
    assert partial.text.startswith("one two ")
    assert partial.text.count("more ") <= 20
    assert partial.metadata["status"] == "interrupted"


def test_a_client_that_never_reads_leaves_no_running_turn(database: Any, served: Served) -> None:
    model = Trickle(*["more "] * 100)
    Chat = owned_chat(database, provider=model)
    with served(Chat) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            body = b'{"message": "Hello"}'
            head = f"POST /chats/stream HTTP/1.1\r\nHost: x\r\nX-User: ann\r\nContent-Length: {len(body)}\r\n"
            connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            until(lambda: Chat.select().count())
        if not served.listens:
            model.may.release(20)
        assert ended(Chat).status == "interrupted"
        model.may.release()


class Verbose:
    """Says more than the buffers of a connection hold, without waiting for anybody."""

    piece, pieces = "more " * 10_000, 120

    def ask(self, request: Any) -> Reply:
        raise AssertionError("it is streamed")

    def stream(self, request: Any) -> Iterator[Delta | Reply]:
        for _ in range(self.pieces):
            yield Delta(self.piece)
        yield Reply(self.piece * self.pieces)

    async def astream(self, request: Any) -> AsyncIterator[Delta | Reply]:
        for piece in self.stream(request):
            yield piece
            await asyncio.sleep(0)


def test_the_reply_to_a_client_that_stops_reading_and_does_not_hang_up_is_stored(
    database: Any, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "READER_WAIT", 0.2)
    Chat = owned_chat(database, provider=Verbose())
    with served(Chat) as port, closing(Reading(port, "/stream", buffer=65_536)) as reading:
        assert reading.event()[0] == "turn_started"
        row = ended(Chat)
        assert row.status == "completed"
        said = Chat.get_context(row.id, actor="ann").messages[1].text
        assert said == Verbose.piece * Verbose.pieces
        told = events(reading.response.read().decode())
        assert "".join(data["text"] for name, data in told if name == "text_delta") == said
        assert told[-1][0] == "turn_finished"


def test_a_turn_that_is_not_streamed_goes_on_without_its_client(database: Any, served: Served) -> None:
    model = Waits()
    Chat = owned_chat(database, provider=model)
    with served(Chat) as port:
        with closing(sent(port, "/", "slow")):
            assert model.asked.acquire(timeout=20)
        model.answer.set()
        row = ended(Chat)
    assert row.status == "completed"
    assert Chat.get_context(row.id, actor="ann").messages[1].text == "answer to slow"


def test_a_turn_that_runs_can_be_followed_from_another_page(database: Any, served: Served) -> None:
    model = Trickle("one ", "two ")
    Chat = owned_chat(database, provider=model)
    with served(Chat) as port, closing(Reading(port, "/stream")) as reading:
        path = f"/chats/{reading.event()[1]['session']}"
        model.may.release()
        reading.event()

        def shown() -> Any:
            return httpx.get(f"http://127.0.0.1:{port}{path}", headers=ANN).json()

        read = until(lambda: (found := shown())["turn"]["partial"] and found)
        assert (read["status"], read["turn"]["partial"]) == ("running", "one ")
        assert [message["text"] for message in read["messages"]] == ["Hello"]
        model.may.release()
        until(lambda: shown()["status"] == "completed")


def test_a_turn_that_is_cancelled_from_another_page_ends_its_stream(database: Any, served: Served) -> None:
    model = Trickle("one ", *["more "] * 10_000)
    Chat = owned_chat(database, {"lease": 0.9}, provider=model)
    with served(Chat) as port, closing(Reading(port, "/stream")) as reading:
        path = f"/chats/{reading.event()[1]['session']}"
        model.may.release()
        reading.event()
        answer = httpx.post(f"http://127.0.0.1:{port}{path}/cancel", headers=ANN)
        assert answer.json()["turn"]["status"] == "interrupted"
        name, failed = reading.event()
        assert (name, failed["error"]) == ("stream_failed", "TurnCancelled")
        model.may.release()


def test_a_server_that_is_stopped_leaves_no_running_turn(database: Any) -> None:
    """As when a deploy stops it while people are reading."""
    model = Trickle("one ", *["more "] * 100)
    Chat = owned_chat(database, provider=model)
    with on_uvicorn(fastapi_app(Chat), timeout_graceful_shutdown=1) as port:
        reading = Reading(port, "/stream")
        assert reading.event()[0] == "turn_started"
        model.may.release()
        reading.event()
    assert ended(Chat).status == "interrupted"
    reading.close()
