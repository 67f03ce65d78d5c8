"""A sync stream that is used as an async one ends its turn and names the function to use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Any

import peewee as pw
import pytest

from tests.support.models import chat_model

NAMES = {
    "stream_start_session": "On an event loop use astream_start_session, which `async for`",
    "stream_continue_session": "On an event loop use astream_continue_session, which `async for`",
    "stream": "On an event loop use astream, which `async for`",
}


async def with_for(stream: Any) -> None:
    async for _ in stream:
        raise AssertionError("a sync stream was read")


async def with_block(stream: Any) -> None:
    async with stream:
        raise AssertionError("a sync stream was entered")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("use", [with_for, with_block])
def test_an_async_use_of_a_sync_stream_names_the_async_function(name: str, use: Any, tmp_path: Any) -> None:
    Chat = chat_model(
        pw.SqliteDatabase(tmp_path / "chat.db", pragmas={"journal_mode": "wal", "busy_timeout": 1})
    )
    session = Chat.start_session("Hello", attributes={"title": "first"})
    given = (session.id, "And now?") if name == "stream_continue_session" else ("And now?",)

    async def read() -> None:
        await use(getattr(Chat, name)(*given))

    with pytest.raises(TypeError) as raised:
        asyncio.run(read())
    assert str(raised.value).startswith(f"{name} returns a TurnStream")
    assert NAMES[name] in str(raised.value)
    open_turns = [record.id for record in Chat.select() if record.status not in ("completed", "interrupted")]
    assert open_turns == []


def test_a_sync_stream_can_still_be_read(tmp_path: Any) -> None:
    Chat = chat_model(
        pw.SqliteDatabase(tmp_path / "chat.db", pragmas={"journal_mode": "wal", "busy_timeout": 1})
    )
    with Chat.stream_start_session("Hello") as stream:
        assert list(stream)
    assert stream.result.text
    assert not isinstance(stream.sse(), AsyncIterable)
