"""A reply that comes in pieces is read in a thread of its own: who follows it can leave, or be told to
stop."""

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
"""Seconds without a further piece after which a stream counts as dead. Before the first one a model may think
for as long as `timeout` lets it."""

_log = logging.getLogger("agentsession")

Piece: TypeAlias = Delta | Reply | BaseException


class Reader:
    """Puts the pieces of an iterator somewhere, and at last the error, if it ends with one."""

    def __init__(
        self, pieces: Callable[[], Iterable[Delta | Reply]], put: Callable[[Piece], object], limits: Limits
    ) -> None:
        self._left = threading.Event()
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
            if self._left.is_set():
                return
            with closing(_each(source)) as pieces:
                for piece in pieces:
                    if self._left.is_set():
                        return
                    self._limits.check(time.monotonic())
                    if isinstance(piece, Reply):
                        self._abort = None
                    self._put(piece)
            self._put(ProviderCallError("the provider's stream ended without a Reply"))
        except BaseException as error:
            self._put(error)

    def leave(self) -> None:
        """Stop reading: at once if the iterator can end its wait for the next piece, else with that piece.
        Then the iterator is closed."""
        self._left.set()
        abort = self._abort
        try:
            if callable(abort):
                abort()
        except Exception as error:
            _log.warning("a stream that was left could not be aborted: %s", type(error).__name__)


def _each(source: Iterable[Delta | Reply]) -> Generator[Delta | Reply]:
    yield from source


def pieces_of(provider: Provider, request: Request) -> Iterable[Delta | Reply]:
    """The pieces of a reply; the whole one where the provider knows no pieces."""
    stream = getattr(provider, "stream", None)
    return whole(provider, request) if stream is None else stream(request)


def whole(provider: Provider, request: Request) -> Iterator[Reply]:
    """The reply, in one piece."""
    yield provider.ask(request)


class Limits:
    """How long a stream may take. A provider that knows no pieces keeps time itself."""

    def __init__(self, provider: Provider, request: Request, names: tuple[str, ...], now: float) -> None:
        is_stream = any(hasattr(provider, name) for name in names)
        self.client = request.client.id
        self.timeout = request.timeout
        self.deadline = now + request.timeout if is_stream else float("inf")
        self.idle = IDLE if is_stream else float("inf")
        self.has_begun = False
        self._since: float | None = None

    def left(self, now: float) -> float | None:
        """Return the seconds to wait for the next piece, or None to wait indefinitely.

        The wait begins with the first call after a piece.
        """
        self._since = now if self._since is None else self._since
        idle = self._since + self.idle - now if self.has_begun else float("inf")
        left = max(min(idle, self.deadline - now), 0.0)
        return None if left == float("inf") else left

    def heard(self) -> None:
        """Note that a piece has come."""
        self.has_begun, self._since = True, None

    def check(self, now: float) -> None:
        """Raise where a provider goes on for too long and nobody takes its pieces."""
        if now >= self.deadline:
            raise self.passed(now)

    def passed(self, now: float) -> ProviderCallError:
        whole = now >= self.deadline
        found = f"no whole answer within {self.timeout:g} s" if whole else f"nothing more for {self.idle:g} s"
        return ProviderCallError(
            f"{self.client}: {found}", status=408, kind="timeout", fix="raise timeout=" if whole else ""
        )


class Silence:
    """Returned in place of a piece when none has arrived and a ping is due."""


def checked_piece(piece: Any) -> Delta | Reply:
    """The piece itself; raises what it stands for, or says that it is none."""
    if isinstance(piece, BaseException):
        raise piece
    if isinstance(piece, Delta) and isinstance(piece.text, str) and isinstance(piece.thinking, str):
        return piece
    if isinstance(piece, Reply):
        return piece
    raise ProviderCallError(f"the provider's stream gave a {type(piece).__name__}, not a Delta or a Reply")
