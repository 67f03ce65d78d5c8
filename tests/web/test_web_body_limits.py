"""Bodies that are too large for the routes: refused by their length, and never read past the limit."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import create_environ, run_wsgi_app

from agentsession.contrib._web.guard import body_limit
from tests.support.web_clients import (
    ANN,
    WEBS,
    Answer,
    Says,
    Web,
    fastapi_app,
    flask_app,
    owned_chat,
    problem,
)
from tests.support.web_servers import on_uvicorn, on_werkzeug

pytestmark = [pytest.mark.backends("sqlite"), pytest.mark.layouts("document")]

CHUNK = b" " * 8192
TYPE = {"Content-Type": "application/json"}


class EndlessBody(io.RawIOBase):
    """A request body without end, which counts what is read of it."""

    taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = b" " * len(buffer)
        self.taken += len(buffer)
        return len(buffer)

    async def receive(self) -> Any:
        self.taken += len(CHUNK)
        return {"type": "http.request", "body": CHUNK, "more_body": True}


def posted_to_fastapi(model: Any, path: str, headers: dict[str, str], body: EndlessBody) -> Answer:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": given}
    scope |= {"asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "root_path": ""}
    asyncio.run(fastapi_app(model)(scope, body.receive, send))
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    text = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], answered, text.decode())


def posted_to_flask(model: Any, path: str, headers: dict[str, str], body: Any) -> Answer:
    environ = create_environ(path, method="POST", headers=headers)
    environ |= {"wsgi.input": body, "wsgi.input_terminated": True}
    environ |= {"CONTENT_LENGTH": headers.get("Content-Length", "")}
    text, status, answered = run_wsgi_app(flask_app(model), environ, buffered=True)
    return Answer(int(status.split()[0]), answered, b"".join(text).decode())


POSTED = {"fastapi": posted_to_fastapi, "flask": posted_to_flask}
Post = Callable[[Any, str, dict[str, str], EndlessBody], Answer]


@pytest.fixture(params=POSTED)
def post(request: Any) -> Any:
    return POSTED[request.param]


@pytest.fixture(params=WEBS)
def makes(request: Any) -> Any:
    return WEBS[request.param]


@pytest.mark.parametrize("declared", ["", "9" * 5000])
@pytest.mark.parametrize("path", ["/chats/", "/chats/stream", "/chats/1/messages", "/chats/1/cancel"])
def test_a_body_whose_length_is_beyond_the_limit_is_not_read(
    post: Post, database: Any, path: str, declared: str
) -> None:
    Chat = owned_chat(database, {"max_input_bytes": 1000}, provider=Says())
    body = EndlessBody()
    length = {"Content-Length": declared or str(body_limit(Chat) + 1)}
    answer = post(Chat, path, ANN | TYPE | length, body)
    assert problem(answer, 413) == "BodyTooLarge"
    assert body.taken == 0


@pytest.mark.parametrize("path", ["/chats/", "/chats/stream", "/chats/1/messages"])
def test_a_body_without_a_length_is_read_up_to_the_limit(post: Post, database: Any, path: str) -> None:
    Chat = owned_chat(database, {"max_input_bytes": 1000}, provider=Says())
    body = EndlessBody()
    answer = post(Chat, path, ANN | TYPE | {"Transfer-Encoding": "chunked"}, body)
    assert problem(answer, 413) == "BodyTooLarge"
    assert body_limit(Chat) < body.taken <= body_limit(Chat) + 2 * len(CHUNK)
    assert Chat.select().count() == 0


def test_an_input_that_fits_is_taken_also_with_every_character_escaped(makes: Any, database: Any) -> None:
    limit = 300_000
    web: Web = makes(owned_chat(database, {"max_input_bytes": limit}))
    for character in ("x", "é", "語", "😀"):
        size = len(character.encode())
        words = character * ((limit - 100) // size)
        assert web("POST", "/", json.dumps({"message": words}, indent=8).encode()).status == 201


def test_a_body_of_exactly_the_limit_is_read_whole(makes: Any, database: Any) -> None:
    Chat = owned_chat(database, {"max_input_bytes": 1000})
    web: Web = makes(Chat)
    body = b'{"message": "Hello"}'
    padded = body.ljust(body_limit(Chat))
    assert web("POST", "/", padded).status == 201
    assert problem(web("POST", "/", padded + b" "), 413) == "BodyTooLarge"


@pytest.mark.parametrize(("make", "serve"), [(fastapi_app, on_uvicorn), (flask_app, on_werkzeug)])
def test_a_chunked_body_without_end_is_answered_on_a_real_server(
    make: Any, serve: Any, database: Any
) -> None:
    Chat = owned_chat(database, {"max_input_bytes": 1000}, provider=Says())
    chunk = b"2000\r\n" + CHUNK + b"\r\n"
    with serve(make(Chat)) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = (
            "POST /chats/ HTTP/1.1\r\nHost: test\r\nX-User: ann\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(head.encode())
        for _ in range(body_limit(Chat) // len(CHUNK) + 1):
            connection.sendall(chunk)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_small_chunked_body_is_taken(database: Any) -> None:
    Chat = owned_chat(database)
    body = io.BytesIO(b'{"message": "Hello"}')
    answer = posted_to_flask(Chat, "/chats/", ANN | TYPE | {"Transfer-Encoding": "chunked"}, body)
    assert answer.status == 201
