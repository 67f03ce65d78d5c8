"""A reply in pieces whose wait for the next piece can be ended from another thread."""

from __future__ import annotations

import inspect
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from agentsession._turn.model_io import Delta, Reply


class Aborting:
    """Whether a stream was left, and the response that it reads now."""

    def __init__(self) -> None:
        self._is_aborted = threading.Event()
        self._source: Any = None

    def reads(self, source: Any) -> None:
        """Note what the stream reads from now on. If the stream was left before, its reading ends at once."""
        self._source = source
        if self._is_aborted.is_set():
            _shut_down(source)

    def abort(self) -> None:
        self._is_aborted.set()
        _shut_down(self._source)

    def pause(self, seconds: float) -> None:
        """Wait before another attempt; raises `ConnectionAbortedError` once nobody waits for it."""
        if self._is_aborted.wait(seconds):
            raise ConnectionAbortedError("the stream was left")


class Abortable:
    """The pieces of a generator."""

    def __init__(self, pieces: Callable[[Aborting], Generator[Delta | Reply]]) -> None:
        self._aborting = Aborting()
        self._pieces = pieces(self._aborting)

    def __iter__(self) -> Abortable:
        return self

    def __next__(self) -> Delta | Reply:
        return next(self._pieces)

    def close(self) -> None:
        self._pieces.close()

    def abort(self) -> None:
        """End the wait for the next piece, from any thread."""
        self._aborting.abort()


def _shut_down(source: Any) -> None:
    """Have the thread that reads the response see its end.

    To close a socket does not wake a thread that reads it, to shut it down does. A response that is read to
    its end has given its connection back, which another request may use; HTTP/2 shares it at any time.
    """
    for response in _responses(source):
        if not response.is_closed and not str(response.http_version).startswith("HTTP/2"):
            connection = response.extensions["network_stream"].get_extra_info("socket")
            if isinstance(connection, socket.socket):
                with suppress(OSError):  # it was closed meanwhile
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of TLS, too: its state stays


def _responses(source: Any) -> list[Any]:
    """The `httpx.Response` behind a stream of litellm: an attribute of it, or of the lines that it reads."""
    found = [getattr(source, name, None) for name in ("response", "http_response", "_response")]
    lines = getattr(source, "streaming_response", None)
    if inspect.isgenerator(lines):
        found.append(inspect.getgeneratorlocals(lines).get("self"))
    return [each for each in found if "network_stream" in getattr(each, "extensions", ())]
