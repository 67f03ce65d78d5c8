"""Leaving a stream on an event loop ends its turn as on a thread, also when the loop ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers
from tests.support.cancellation import WORDS, CancelsAt, tasks
from tests.support.models import chat_model, stored
from tests.support.slow_replies import SAID, AsyncHalves, Halves, Left, ahalf_of, is_interrupted, settled


@pytest.fixture(autouse=True)
def no_task_fails_silently(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.fixture
def Chat(tmp_path: Path) -> Any:
    return chat_model(servers.open_database(tmp_path / "chat.db"), provider=AsyncHalves())


async def by_the_end_of_its_async_block(stream: Any) -> None:
    async with stream:
        await ahalf_of(stream)


async def by_an_error_in_its_block(stream: Any) -> None:
    with pytest.raises(Left):
        async with stream:
            await ahalf_of(stream)
            raise Left


async def by_closing_it_twice(stream: Any) -> None:
    await ahalf_of(stream)
    for _ in range(2):
        await stream.aclose()
    assert [event async for event in stream] == []


async def by_closing_its_async_sse(stream: Any) -> None:
    async with aclosing(stream.sse()) as lines:
        deltas = 0
        async for line in lines:
            deltas += "text_delta" in line
            if deltas == 2:
                break


async def by_breaking_out_of_a_bare_for(stream: Any) -> None:
    await ahalf_of(stream)


ASYNC_WAYS = [
    by_the_end_of_its_async_block,
    by_an_error_in_its_block,
    by_closing_it_twice,
    by_closing_its_async_sse,
    by_breaking_out_of_a_bare_for,
]


@pytest.mark.parametrize("leave", ASYNC_WAYS)
@pytest.mark.parametrize("provider", [AsyncHalves, Halves])
def test_leaving_an_async_stream_stores_the_partial_reply(tmp_path: Path, provider: Any, leave: Any) -> None:
    model = provider()
    Chat = chat_model(servers.open_database(tmp_path / "chat.db"), provider=model)
    session = Chat.start_session("fast, before")

    async def scenario() -> None:
        await leave(Chat.astream_continue_session(session.id, WORDS))
        async with asyncio.timeout(20):
            while len(tasks()) > 1 or (await Chat.aget_context(session.id)).turn.status == "running":
                await asyncio.sleep(0.01)
        assert provider is Halves or model.closed == 1, "the provider was not stopped"

    asyncio.run(scenario())
    before = stored(session)
    assert is_interrupted(Chat.get_context(session), WORDS, SAID, "StreamClosed")
    model.goes_on.set()
    settled(lambda: model.closed == model.streams == 1)
    assert stored(session) == before


def test_an_async_stream_closed_before_it_begins_stores_nothing(Chat: Any) -> None:
    async def scenario() -> None:
        stream = Chat.astream_start_session(WORDS)
        await stream.aclose()
        with pytest.warns(RuntimeWarning, match="was never awaited"):
            del stream
        began = await Chat.astream_start_session(WORDS)
        await began.aclose()
        await began.aclose()
        assert is_interrupted(await Chat.aget_context(began.session), WORDS, "")

    asyncio.run(scenario())
    assert Chat.select().count() == 1


def test_an_async_stream_whose_closing_is_cancelled_is_interrupted_once(Chat: Any) -> None:
    async def closed_at(at: int) -> bool:
        stream = await Chat.astream_start_session(WORDS)
        await ahalf_of(stream)

        async def close() -> None:
            closing = CancelsAt(at, stream.aclose(), asyncio.current_task().cancel)  # type: ignore[union-attr]
            await closing

        (ended,) = await asyncio.gather(asyncio.create_task(close()), return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError | None)
        assert len(tasks()) == 1
        assert is_interrupted(await Chat.aget_context(stream.session), WORDS)
        await stream.aclose()
        return ended is not None

    async def scenario() -> int:
        at = 1
        while await closed_at(at):
            at += 1
        return at

    assert asyncio.run(scenario()) > 2


def test_ctrl_c_in_the_body_of_an_async_stream_interrupts_its_turn(Chat: Any) -> None:
    async def scenario() -> None:
        async with Chat.astream_start_session(WORDS) as stream:
            await ahalf_of(stream)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(scenario())
    assert is_interrupted(Chat.get_context(Chat.get().id), WORDS)


# The end of the loop.


kept_streams: list[Any] = []


async def drop_open_stream(Chat: Any) -> None:
    await ahalf_of(Chat.astream_start_session(WORDS))


async def keep_open_stream(Chat: Any) -> None:
    kept_streams.append(Chat.astream_start_session(WORDS))
    await ahalf_of(kept_streams[0])


async def keep_unread_stream(Chat: Any) -> None:
    kept_streams.append(await Chat.astream_start_session(WORDS))


@pytest.mark.parametrize("leave", [drop_open_stream, keep_open_stream, keep_unread_stream])
@pytest.mark.parametrize("provider", [AsyncHalves, Halves])
def test_a_stream_open_at_the_end_of_the_loop_is_interrupted(
    tmp_path: Path, provider: Any, leave: Any
) -> None:
    model = provider()
    Chat = chat_model(servers.open_database(tmp_path / "chat.db"), provider=model)
    asyncio.run(leave(Chat))
    kept_streams.clear()
    gc.collect()
    model.goes_on.set()
    received = "" if leave is keep_unread_stream else SAID
    assert is_interrupted(Chat.get_context(Chat.get().id), WORDS, received)
    settled(lambda: model.closed == model.streams)


def test_a_stream_collected_in_a_reference_cycle_is_interrupted(Chat: Any) -> None:
    async def scenario() -> None:
        stream = Chat.astream_start_session(WORDS)
        await ahalf_of(stream)
        stream.itself = stream
        del stream
        gc.collect()
        async with asyncio.timeout(20):
            while len(tasks()) > 1:
                await asyncio.sleep(0.01)

    asyncio.run(scenario())
    assert is_interrupted(Chat.get_context(Chat.get().id), WORDS)


def test_ended_and_dropped_streams_leave_no_generator_open(Chat: Any) -> None:
    async def follow(words: str, leave: Any) -> None:
        await leave(Chat.astream_start_session(words))

    async def to_its_end(stream: Any) -> None:
        async for _ in stream:
            pass

    async def scenario() -> None:
        for words, leave in (("fast", to_its_end), (WORDS, ahalf_of), (WORDS, by_the_end_of_its_async_block)):
            await asyncio.gather(*(follow(words, leave) for _ in range(3)))
        async with asyncio.timeout(20):
            while len(tasks()) > 1:
                await asyncio.sleep(0.01)
        gc.collect()
        open_generators = [
            each for each in gc.get_objects() if isinstance(each, AsyncGenerator) and each.ag_frame
        ]
        assert [each for each in open_generators if "agentsession" in str(each.ag_code)] == []

    asyncio.run(scenario())
    assert sorted(row.status for row in Chat.select()) == ["completed"] * 3 + ["interrupted"] * 6
