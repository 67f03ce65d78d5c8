"""200 streams at once on one event loop: each gets its own reply, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from agentsession import TextDelta, TurnFinished
from agentsession._workers import BEATS, PREPARING, STATEMENTS
from agentsession.provider import Delta, Reply, Request
from tests.support import servers
from tests.support.models import chat_model, stored

pytestmark = pytest.mark.matrix

STREAMS = 200


class Repeats:
    """Says each word of the question, after a while, so that all streams are open at once."""

    def __init__(self) -> None:
        self.open = self.most = 0
        self.all_are_open = asyncio.Event()

    def ask(self, request: Request) -> Reply:
        raise AssertionError("a stream was asked for")

    async def astream(self, request: Request) -> AsyncIterator[Delta | Reply]:
        self.open += 1
        self.most = max(self.most, self.open)
        if self.open == STREAMS:
            self.all_are_open.set()
        said = request.prompt[-1].content
        try:
            for word in said.split():
                yield Delta(f"{word} ")
            await self.all_are_open.wait()
            yield Reply(f"{said} ")
        finally:
            self.open -= 1


async def follow(Chat: Any, number: int) -> Any:
    words = f"these are the words of {number}"
    async with Chat.astream_start_session(words) as stream:
        events = [event async for event in stream]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == f"{words} "
    assert isinstance(events[-1], TurnFinished)
    return stream.session.id


async def all_at_once(Chat: Any) -> list[Any]:
    return await asyncio.gather(*(follow(Chat, number) for number in range(STREAMS)))


def check(Chat: Any, model: Repeats, keys: list[Any]) -> None:
    assert (model.most, model.open) == (STREAMS, 0)
    rows = list(Chat.select())
    assert sorted(str(row.id) for row in rows) == sorted(map(str, keys))
    for row in rows:
        asked, replied = stored(row)["messages"]
        assert replied["content"] == f"{asked['content']} "
        assert (row.status, row.context["turn"].get("partial")) == ("completed", None)


@pytest.mark.backends("sqlite", "postgres")
def test_200_streams_share_one_loop_and_some_threads(database: Any) -> None:
    model, before = Repeats(), len(others_than_workers())
    Chat = chat_model(database, provider=model)
    keys = asyncio.run(all_at_once(Chat))
    check(Chat, model, keys)
    assert len(others_than_workers()) <= before + 1
    assert threading.active_count() <= before + 1 + sum(each.most for each in (STATEMENTS, BEATS, PREPARING))


def others_than_workers() -> list[threading.Thread]:
    workers = {each.name for each in (STATEMENTS, BEATS, PREPARING)}
    return [each for each in threading.enumerate() if each.name not in workers]


@pytest.mark.backends("sqlite", "postgres")
def test_200_streams_share_a_pool_of_three(database_url: str) -> None:
    model = Repeats()
    database = servers.open_async_database(database_url, pool_size=3)

    async def run() -> list[Any]:
        try:
            Chat = await database.run(partial(chat_model, database, provider=model))
            return await all_at_once(Chat)
        finally:
            await database.close_pool()

    keys = asyncio.run(run())
    with servers.open_database(database_url) as plain:
        check(chat_model(plain, create=False), model, keys)
