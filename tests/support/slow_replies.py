"""A model that says half of its reply and then takes its time, and what must be stored of a turn that is left
then."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from agentsession import TextDelta
from agentsession.context import Context
from agentsession.provider import Delta, Reply

HALF = ("half ", "a reply")
SAID = "".join(HALF)
WHOLE = SAID + ", and the rest"


class Halves:
    """Says half of its reply, goes on when it may, and tells the whole. Words that begin with "fast" get an
    answer at once.

    `said`: the half has been said. `streams` are the iterators that began, `closed` those that ended, however
    they did. `answered` are the words that it has answered last, to a plain question by a coroutine.
    """

    answered = ""

    def __init__(self, *, goes_on: bool = False) -> None:
        self.said = threading.Event()
        self.goes_on = threading.Event()
        self.asked = self.streams = self.closed = 0
        if goes_on:
            self.goes_on.set()

    def is_slow(self, request: Any) -> bool:
        self.asked += 1
        return not request.prompt[-1].content.startswith("fast")

    def ask(self, request: Any) -> Reply:
        if self.is_slow(request):
            self.said.set()
            assert self.goes_on.wait(60)
        return Reply(WHOLE)

    def stream(self, request: Any) -> Iterator[Delta | Reply]:
        self.streams += 1
        try:
            if self.is_slow(request):
                yield from map(Delta, HALF)
                self.said.set()
                assert self.goes_on.wait(60)
            yield Reply(WHOLE)
        finally:
            self.closed += 1


class AsyncHalves(Halves):
    """The same with coroutines."""

    async def may_go_on(self) -> None:
        self.said.set()
        await asyncio.sleep(0)
        while not self.goes_on.is_set():
            await asyncio.sleep(0.005)

    async def aask(self, request: Any) -> Reply:
        if self.is_slow(request):
            await self.may_go_on()
        self.answered = request.prompt[-1].content
        return Reply(WHOLE)

    async def astream(self, request: Any) -> AsyncIterator[Delta | Reply]:
        self.streams += 1
        try:
            if self.is_slow(request):
                for piece in HALF:
                    yield Delta(piece)
                    await asyncio.sleep(0)
                await self.may_go_on()
            yield Reply(WHOLE)
        finally:
            self.closed += 1


def replies(context: Context, words: str) -> list[tuple[str, str | None]]:
    """Each text that came on these words, which are stored once, and the status of one that is not whole."""
    (opening,) = [message for message in context.messages if message.text == words]
    return [
        (message.text, message.metadata.get("status"))
        for message in context.messages
        if (message.turn, message.role) == (opening.turn, "assistant")
    ]


def is_interrupted(context: Context, words: str, received: str = SAID, why: str = "") -> bool:
    """The latest turn is stored as interrupted, with what was received of its reply, once."""
    turn = context.turn
    assert turn is not None
    assert (turn.status, turn.claim, turn.partial) == ("interrupted", None, "")
    opening = context.opening(turn.id)
    assert opening is not None
    assert (opening.text, opening.metadata["status"]) == (words, "interrupted")
    assert turn.error is not None
    assert opening.metadata["error"] == {"type": turn.error.type, "message": turn.error.message}
    assert turn.error.type == (why or turn.error.type)
    assert replies(context, words) == ([(received, "interrupted")] if received else [])
    return True


def is_completed(context: Context, words: str) -> bool:
    """The latest turn is stored as completed, with the whole reply, once."""
    turn = context.turn
    assert turn is not None
    assert (turn.status, turn.claim, turn.partial, turn.error) == ("completed", None, "", None)
    assert replies(context, words) == [(WHOLE, None)]
    opening = context.opening(turn.id)
    assert opening is not None
    assert "status" not in opening.metadata
    return True


def settled(happened: Any, limit: float = 20.0) -> None:
    """Wait until it has happened."""
    end = time.monotonic() + limit
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


class Left(Exception):
    """What goes wrong in the body of who follows a stream."""


def half_of(stream: Any) -> None:
    """Follow it until half of the reply has arrived."""
    told = ""
    for event in stream:
        told += event.text if isinstance(event, TextDelta) else ""
        if told == SAID:
            return


async def ahalf_of(stream: Any) -> None:
    told = ""
    async for event in stream:
        told += event.text if isinstance(event, TextDelta) else ""
        if told == SAID:
            return
