"""Real web servers in threads of the test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from werkzeug.serving import make_server


@contextmanager
def on_uvicorn(app: Any, **options: Any) -> Iterator[int]:
    """The port of a real server in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@contextmanager
def on_werkzeug(app: Any, *, threaded: bool = True) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=threaded)
    # `shutdown` waits for the next poll: half a second by default.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def recorded_asgi(app: Any, answered: list[tuple[str, int]]) -> Any:
    """The app, which notes the method and the status of each request."""

    async def recording(scope: Any, receive: Any, send: Any) -> None:
        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                answered.append((scope["method"], message["status"]))
            await send(message)

        await app(scope, receive, noted)

    return recording


def recorded_wsgi(app: Any, answered: list[tuple[str, int]]) -> Any:
    def recording(environ: Any, start_response: Any) -> Any:
        def noted(status: str, *more: Any) -> Any:
            answered.append((environ["REQUEST_METHOD"], int(status.split()[0])))
            return start_response(status, *more)

        return app(environ, noted)

    return recording


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What it gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
    return value
