"""The pieces of a reply: the thread that reads them from a provider, and how long they may take.

HTTP clients limit each read, and not the complete reply. A thread puts the pieces into a queue, so that the
driver can stop waiting: at a time limit, when the claim is lost, or when the stream is closed. A slow reader
does not hold up the provider.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from contextvars import copy_context
from typing import Any, TypeAlias

from agentsession._turn.model_io import Delta, Reply
from agentsession.errors import ProviderCallError
from agentsession.provider.protocol import Provider, Request

IDLE = 30.0
"""Seconds between two pieces after which a stream counts as dead. The first piece may take `timeout`."""

_log = logging.getLogger("agentsession")

Piece: TypeAlias = Delta | Reply | BaseException


class NoPiece:
    """Stands for a piece when none has arrived and a ping is due."""


class PieceThread:
    """A thread that passes the pieces of an iterator to `put`, and its error if it raises one."""

    def __init__(
        self,
        pieces: Callable[[], Iterable[Delta | Reply]],
        put: Callable[[Piece], object],
        limits: StreamLimits,
    ) -> None:
        self._is_stopped = threading.Event()
        self._abort: Any = None
        self._limits = limits
        self._pieces = pieces
        self._put = put
        context = copy_context()
        threading.Thread(
            target=context.run, args=(self._read,), name="agentsession-read", daemon=True
        ).start()

    def _read(self) -> None:
        try:
            source = self._pieces()
            self._abort = getattr(source, "abort", None)
            if self._is_stopped.is_set():
                return
            with closing(_generator(source)) as pieces:
                for piece in pieces:
                    if self._is_stopped.is_set():
                        return
                    self._limits.check(time.monotonic())
                    if isinstance(piece, Reply):
                        self._abort = None
                    self._put(piece)
            self._put(ProviderCallError("the provider's stream ended without a Reply"))
        except BaseException as error:
            self._put(error)

    def stop(self) -> None:
        """Stop reading and close the iterator.

        An iterator with a method `abort` ends its wait for the next piece at once. Any other one is closed
        after the next piece.
        """
        self._is_stopped.set()
        abort = self._abort
        try:
            if callable(abort):
                abort()
        except Exception as error:
            _log.warning("a closed stream could not be aborted: %s", type(error).__name__)


def _generator(source: Iterable[Delta | Reply]) -> Generator[Delta | Reply]:
    """Return the iterable as a generator, which can be closed."""
    yield from source


def pieces_of(provider: Provider, request: Request) -> Iterable[Delta | Reply]:
    """Return the pieces of a reply, or the reply in one piece if the provider cannot stream."""
    stream = getattr(provider, "stream", None)
    return reply_in_one_piece(provider, request) if stream is None else stream(request)


def reply_in_one_piece(provider: Provider, request: Request) -> Iterator[Reply]:
    yield provider.ask(request)


def checked_piece(piece: Any) -> Delta | Reply:
    """Return the piece. Raise it if it is an error, and `ProviderCallError` if it is of another type."""
    if isinstance(piece, BaseException):
        raise piece
    if isinstance(piece, Delta) and isinstance(piece.text, str) and isinstance(piece.thinking, str):
        return piece
    if isinstance(piece, Reply):
        return piece
    raise ProviderCallError(f"the provider's stream gave a {type(piece).__name__}, not a Delta or a Reply")


class StreamLimits:
    """The time limits of one reply.

    They apply if the provider has one of the `methods`, which stream. Any other provider limits the time of
    its call itself.
    """

    def __init__(self, provider: Provider, request: Request, methods: tuple[str, ...], now: float) -> None:
        is_stream = any(hasattr(provider, name) for name in methods)
        self.client = request.client.id
        self.timeout = request.timeout
        self.deadline = now + request.timeout if is_stream else float("inf")
        self.idle = IDLE if is_stream else float("inf")
        self.has_begun = False
        self._waiting_since: float | None = None

    def remaining(self, now: float) -> float | None:
        """Return the seconds to wait for the next piece, or None to wait indefinitely.

        The wait begins with the first call after a piece.
        """
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        idle = self._waiting_since + self.idle - now if self.has_begun else float("inf")
        remaining = max(min(idle, self.deadline - now), 0.0)
        return None if remaining == float("inf") else remaining

    def note_piece(self) -> None:
        """Note that a piece has arrived."""
        self.has_begun, self._waiting_since = True, None

    def check(self, now: float) -> None:
        """Raise after `timeout`.

        The thread or task that reads calls it, because a driver whose reader stops reading does not wait.
        """
        if now >= self.deadline:
            raise self.timeout_error(now)

    def timeout_error(self, now: float) -> ProviderCallError:
        is_deadline = now >= self.deadline
        found = f"no complete reply within {self.timeout:g} s"
        if not is_deadline:
            found = f"nothing more for {self.idle:g} s"
        fix = "raise timeout=" if is_deadline else ""
        return ProviderCallError(f"{self.client}: {found}", status=408, kind="timeout", fix=fix)
