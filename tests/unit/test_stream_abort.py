"""A stream that is left ends its wait for the next piece, wherever it waits."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from agentsession._drive.reply_pieces import Piece, PieceThread, StreamLimits
from agentsession._options import Client
from agentsession._schema import OutputSchema
from agentsession.provider import Delta, Reply, Request
from agentsession.provider.litellm.stream import Abortable, Aborting
from tests.support.lease_watch import eventually


def test_a_stream_that_is_left_makes_no_further_attempt() -> None:
    aborting, ended = Aborting(), threading.Event()

    def waits() -> None:
        with pytest.raises(ConnectionAbortedError):
            aborting.pause(600)
        ended.set()

    threading.Thread(target=waits).start()
    aborting.abort()
    assert ended.wait(20)


def test_pauses_between_attempts_end_by_themselves() -> None:
    Aborting().pause(0.001)


def limits() -> StreamLimits:
    request = Request((), Client("x:y", {}), OutputSchema(str))
    return StreamLimits(object(), request, (), 0.0)  # type: ignore[arg-type]


class Counts:
    """An iterable of its own kind, with a method of that name or without."""

    def __init__(self, abort: Any) -> None:
        self.aborted = 0
        self.goes_on = threading.Event()
        self.abort = abort or self._abort

    def _abort(self) -> None:
        self.aborted += 1
        self.goes_on.set()

    def __iter__(self) -> Iterator[Delta | Reply]:
        yield Delta("one")
        self.goes_on.wait(60)
        yield Delta("two")


def test_a_reader_that_leaves_aborts_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    pieces, source = list[Piece](), Counts(None)
    reader = PieceThread(lambda: source, pieces.append, limits())
    eventually(lambda: pieces)
    reader.stop()
    assert source.aborted == 1
    assert pieces == [Delta("one")]
    assert not caplog.records


def test_an_error_of_abort_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise OSError("secret")

    pieces, source = list[Piece](), Counts(fails)
    reader = PieceThread(lambda: source, pieces.append, limits())
    eventually(lambda: pieces)
    reader.stop()
    assert "OSError" in caplog.text
    assert "secret" not in caplog.text
    source.goes_on.set()


def test_a_reader_that_has_the_reply_aborts_nothing() -> None:
    pieces, source = list[Piece](), Counts(None)

    def whole(aborting: Aborting) -> Generator[Delta | Reply]:
        yield Reply("all")

    abortable = Abortable(whole)
    abortable.abort = source._abort  # type: ignore[method-assign]
    reader = PieceThread(lambda: abortable, pieces.append, limits())
    eventually(lambda: pieces)
    reader.stop()
    assert source.aborted == 0
