"""A character that a provider sends in two halves, and halves that stay alone, in the events of a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from agentsession import PartialOutput, TextDelta, ThinkingDelta, agent
from agentsession.provider import Delta, Reply

HIGH, LOW = "\ud83d", "\ude00"
"""The two halves of 😀, as JSON escapes them."""


class Pieces:
    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    @property
    def reply(self) -> Reply:
        return Reply("".join(self.pieces), thinking="".join(self.pieces))

    def ask(self, request: Any) -> Reply:
        return self.reply

    def stream(self, request: Any) -> Iterator[Delta | Reply]:
        for piece in self.pieces:
            yield Delta(piece, piece)
        yield self.reply

    async def astream(self, request: Any) -> AsyncIterator[Delta | Reply]:
        for piece in self.stream(request):
            yield piece


def model_that_sends(*pieces: str, output: Any = None) -> Any:
    @agent(client="x:y", instruction="Hi", provider=Pieces(*pieces), output_schema=output)
    class Terse: ...

    return Terse


def events_of(model: Any, way: str) -> list[Any]:
    async def gathered() -> list[Any]:
        return [event async for event in model.astream("Hi")]

    return [*model.stream("Hi")] if way == "stream" else asyncio.run(gathered())


WAYS = pytest.mark.parametrize("way", ["stream", "astream"])


@WAYS
@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (("Hi " + HIGH, LOW + "!"), "Hi 😀!"),
        (("Hi", HIGH, LOW), "Hi😀"),
        (("Hi " + HIGH, "!"), "Hi \ufffd!"),
        (("Hi " + LOW, HIGH), "Hi \ufffd\ufffd"),
        (("a" + HIGH, HIGH + LOW), "a\ufffd😀"),
        (("a\0", "b"), "a\ufffdb"),
    ],
)
def test_the_events_hold_whole_characters(way: str, pieces: tuple[str, ...], text: str) -> None:
    events = events_of(model_that_sends(*pieces), way)
    assert [json.loads(event.sse().split("data: ")[1])["type"] for event in events][-1] == "turn_finished"
    for kind in (TextDelta, ThinkingDelta):
        assert "".join(event.text for event in events if isinstance(event, kind)) == text
    assert (events[-1].result.text, events[-1].result.thinking) == (text, text)


@WAYS
def test_structured_output_holds_whole_characters(way: str) -> None:
    events = events_of(model_that_sends('["a', HIGH, LOW + '"]', output=list[str]), way)
    assert events[-1].result.output == ["a😀"]
    assert not any(HIGH in str(event.value) for event in events if isinstance(event, PartialOutput))
