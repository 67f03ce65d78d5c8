"""A sync stream is often read after its caller has closed the connection, as web servers do: the stream
leaves no connection open, on no thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from agentsession import TurnFinished
from agentsession.provider import Delta, Reply
from tests.support import servers
from tests.support.models import chat_model
from tests.support.web_servers import on_uvicorn, on_werkzeug, until

pytestmark = pytest.mark.matrix

POOL = 3
STREAMS = 4 * POOL


class Pieces:
    """A model that answers in three pieces."""

    def ask(self, request: Any) -> Reply:
        raise AssertionError("it is streamed")

    def stream(self, request: Any) -> Iterator[Delta | Reply]:
        for word in ("one ", "two ", "three"):
            yield Delta(word)
        yield Reply("one two three")


@pytest.fixture
def pool(database_url: str) -> Iterator[Any]:
    opened = servers.open_database(database_url, pool=POOL)
    yield opened
    opened.close_all()


def flask_app(database: Any) -> flask.Flask:
    """The hooks of Peewee's documentation, a route that streams, and one that only reads."""
    Chat = chat_model(database, provider=Pieces())
    app = flask.Flask("chat")

    @app.before_request
    def connect() -> None:
        database.connect()

    @app.teardown_request
    def close(error: BaseException | None) -> None:
        if not database.is_closed():
            database.close()

    @app.post("/say")
    def say() -> flask.Response:
        return flask.Response(Chat.stream_start_session("Hello").sse(), mimetype="text/event-stream")

    @app.get("/count")
    def count() -> str:
        return str(Chat.select().count())

    return app


def served(web: httpx.Client) -> None:
    """Each stream ends well, and the request after it finds the database as it should be."""
    for number in range(1, STREAMS + 1):
        answer = web.post("/say")
        assert (answer.status_code, answer.text.count("event: turn_finished")) == (200, 1)
        assert web.get("/count").text == str(number)


@pytest.mark.parametrize("pooled", [False, True])
def test_one_thread_of_flask_serves_many_streams(database_url: str, pooled: bool) -> None:
    database = servers.open_database(database_url, pool=POOL if pooled else 0)
    with on_werkzeug(flask_app(database), threaded=False) as port:
        served(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30))
    assert not getattr(database, "_in_use", {})


def test_threads_of_flask_return_every_connection_to_the_pool(pool: Any) -> None:
    with on_werkzeug(flask_app(pool)) as port:
        served(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30))
        until(lambda: not pool._in_use)


def fastapi_app(database: Any) -> FastAPI:
    """A plain function that looks something up, and then streams: each step runs on another thread."""
    Chat = chat_model(database, provider=Pieces())
    app = FastAPI()

    @app.post("/say")
    def say() -> StreamingResponse:
        with database.connection_context():
            Chat.select().count()
            stream = Chat.stream_start_session("Hello")
        return StreamingResponse(stream.sse(), media_type="text/event-stream")

    @app.get("/count")
    def count() -> int:
        with database.connection_context():
            return int(Chat.select().count())

    return app


def test_threads_of_fastapi_return_every_connection_to_the_pool(pool: Any) -> None:
    with on_uvicorn(fastapi_app(pool)) as port, ThreadPoolExecutor(POOL) as clients:
        url = f"http://127.0.0.1:{port}"
        answers = [clients.submit(httpx.post, f"{url}/say", timeout=30) for _ in range(STREAMS)]
        for answer in answers:
            assert answer.result().text.count("event: turn_finished") == 1
        until(lambda: not pool._in_use)
        assert httpx.get(f"{url}/count").json() == STREAMS


@pytest.mark.parametrize("reads", ["the same thread", "another thread"])
@pytest.mark.parametrize("closes", ["before the first event", "in the middle"])
def test_a_stream_uses_its_own_connection_after_the_caller_closed_one(
    pool: Any, closes: str, reads: str
) -> None:
    Chat = chat_model(pool, provider=Pieces())
    pool.connect()
    stream = Chat.stream_start_session("Hello")
    if closes == "in the middle":
        next(stream)
        next(stream)
    assert not pool.is_closed()
    pool.close()
    used: list[int] = []

    def read() -> None:
        for _ in stream:
            used.append(len(pool._in_use))

    if reads == "another thread":
        thread = threading.Thread(target=read)
        thread.start()
        thread.join(30)
    else:
        read()
    assert stream.result.text == "one two three"
    assert set(used) == {0}
    assert pool.is_closed()


def test_a_stream_keeps_the_connection_of_its_caller_open(pool: Any) -> None:
    Chat = chat_model(pool, provider=Pieces())
    with pool.connection_context():
        mine = pool.connection()
        events = list(Chat.stream_start_session("Hello"))
        assert isinstance(events[-1], TurnFinished)
        assert pool.connection() is mine
    assert not pool._in_use
