"""Cancelling a task at any await frees its session at once, keeps the stored messages, and leaves no task."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import peewee as pw
import pytest

from tests.support import servers
from tests.support.cancellation import (
    AGAIN,
    WORDS,
    Cancels,
    Turn,
    again_and_again,
    by_its_task,
    cancelled_at_each_await,
    tasks,
    with_all_others,
    with_its_group,
)
from tests.support.models import chat_model
from tests.support.slow_replies import SAID, WHOLE, AsyncHalves, Halves, is_completed, is_interrupted, settled


@pytest.fixture(autouse=True)
def no_task_fails_silently(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio reports no destroyed task and no unretrieved exception."""
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


# Databases.


@pytest.fixture
def file(tmp_path: Path) -> Any:
    return servers.open_database(tmp_path / "chat.db")


@pytest.fixture
def memory() -> Iterator[Any]:
    opened = pw.SqliteDatabase(":memory:")
    opened.connect()
    yield opened
    opened.close()


def outcomes_on_a_file(database: Any, model: Any, call: str, cancels: Cancels) -> set[tuple[bool, str]]:
    Chat = chat_model(database, provider=model)
    return asyncio.run(cancelled_at_each_await(Chat, model, call, cancels))


CANCELS = [by_its_task, again_and_again, with_its_group, with_all_others]
named = pytest.mark.parametrize("cancels", CANCELS, ids=lambda each: each.__name__)


@named
@pytest.mark.parametrize("call", ["start", "continue_", "resume", "stream", "stream_again"])
def test_a_turn_cancelled_at_any_await_ends_and_the_next_call_works(
    file: Any, call: str, cancels: Cancels
) -> None:
    model = AsyncHalves(goes_on=True)
    outcomes = outcomes_on_a_file(file, model, call, cancels)
    assert model.closed == model.streams
    assert (True, "completed") in outcomes, "cancelled while the reply was stored"
    if cancels is by_its_task:
        assert (True, "pending" if call in AGAIN else "nothing") in outcomes, (
            "cancelled before the message was stored"
        )


@named
@pytest.mark.parametrize("call", ["continue_", "stream"])
def test_a_turn_whose_model_runs_in_a_thread_can_be_cancelled_at_any_await(
    file: Any, call: str, cancels: Cancels
) -> None:
    model = Halves(goes_on=True)
    outcomes_on_a_file(file, model, call, cancels)
    settled(lambda: model.closed == model.streams)


@named
@pytest.mark.parametrize("call", ["start", "continue_", "stream"])
def test_a_turn_in_memory_can_be_cancelled_at_any_await(memory: Any, call: str, cancels: Cancels) -> None:
    model = AsyncHalves(goes_on=True)
    Chat = chat_model(memory, create=False, provider=model)
    memory.create_tables([Chat])
    asyncio.run(cancelled_at_each_await(Chat, model, call, cancels))


def run_on_a_database(url: str, scenario: Callable[[Any], Awaitable[Any]]) -> None:
    """Run a scenario on an asynchronous database."""

    async def run() -> None:
        db = servers.open_async_database(url)
        try:
            await asyncio.wait_for(scenario(db), 120)
        finally:
            await db.close_pool()

    asyncio.run(run())


@named
@pytest.mark.parametrize("call", ["start", "continue_", "stream"])
def test_a_turn_on_an_asynchronous_database_can_be_cancelled_at_any_await(
    database_url: str, call: str, cancels: Cancels
) -> None:
    async def scenario(db: Any) -> None:
        model = AsyncHalves(goes_on=True)
        Chat = await db.run(lambda: chat_model(db, provider=model))
        await cancelled_at_each_await(Chat, model, call, cancels)

    run_on_a_database(database_url, scenario)


# Time limits and task groups.


async def timeout(work: Any, reply_began: Any) -> None:
    async def end_the_limit() -> None:
        await reply_began
        limit.reschedule(0)

    async with asyncio.timeout(None) as limit:
        over = asyncio.create_task(end_the_limit())
        await work
    await over


async def wait_for(work: Any, reply_began: Any) -> None:
    work = asyncio.create_task(work)
    await reply_began
    await asyncio.wait_for(work, 0.01)


async def move_on_after(work: Any, reply_began: Any) -> None:
    async def end_the_limit() -> None:
        await reply_began
        scope.deadline = -1

    with anyio.move_on_after(1e6) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(end_the_limit)
            await work
    assert scope.cancelled_caught
    raise TimeoutError


async def another_fails(work: Any, reply_began: Any) -> None:
    async def fail() -> None:
        await reply_began
        raise TimeoutError

    with pytest.raises(ExceptionGroup) as group:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work)
            tasks.create_task(fail())
    raise group.value.exceptions[0]


@pytest.mark.parametrize("limited", [timeout, wait_for, move_on_after, another_fails])
@pytest.mark.parametrize("call", ["continue_", "stream"])
def test_a_turn_that_exceeds_a_timeout_is_interrupted_and_raises_timeout_error(
    file: Any, call: str, limited: Any
) -> None:
    model = AsyncHalves()
    turn = Turn(chat_model(file, provider=model))

    async def scenario() -> None:
        await turn.before(call)
        with pytest.raises(TimeoutError):
            await limited(getattr(turn, call)(), turn.has_come_halfway(call, model))
        await asyncio.sleep(0)
        assert tasks() == {asyncio.current_task()}

    asyncio.run(scenario())
    assert is_interrupted(turn.Chat.get_context(turn.key), WORDS, SAID if call == "stream" else "")
    assert model.closed == model.streams


@pytest.mark.parametrize("provider", [AsyncHalves, Halves])
@pytest.mark.parametrize("call", ["start", "continue_", "stream"])
def test_a_background_turn_is_interrupted_when_the_loop_ends(file: Any, call: str, provider: Any) -> None:
    model = provider()
    turn = Turn(chat_model(file, provider=model))

    async def scenario() -> None:
        await turn.before(call)
        task = asyncio.create_task(getattr(turn, call)())
        await turn.has_come_halfway(call, model)
        assert not task.done()

    asyncio.run(scenario())
    model.goes_on.set()
    settled(lambda: model.closed == model.streams)
    assert is_interrupted(turn.Chat.get_context(turn.key), WORDS, SAID if call == "stream" else "")
    turn.Chat.continue_session(turn.key, "fast")


def test_a_task_cancelled_while_it_waits_for_a_busy_session_stores_nothing(file: Any) -> None:
    model = AsyncHalves()
    Chat = chat_model(file, provider=model, session={"on_busy": "wait"})
    running, waiting = Turn(Chat), Turn(Chat)

    async def scenario() -> None:
        await running.before("continue_")
        waiting.key = running.key
        task = asyncio.create_task(running.continue_())
        await running.has_come_halfway("continue_", model)
        before = await running.context()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Chat.acontinue_session(running.key, "waits"), 0.3)
        assert await running.context() == before
        model.goes_on.set()
        await task

    asyncio.run(scenario())
    context = Chat.get_context(running.key)
    assert is_completed(context, WORDS)
    assert "waits" not in [message.text for message in context.messages]


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, pytest.fail.Exception]
)
@pytest.mark.parametrize("call", ["continue_", "stream"])
def test_an_exit_exception_in_the_coroutine_of_a_provider_interrupts_the_turn(
    file: Any, call: str, error: type[BaseException]
) -> None:
    class Ends(AsyncHalves):
        async def may_go_on(self) -> None:
            raise error

    turn = Turn(chat_model(file, provider=Ends()))

    async def scenario() -> None:
        await turn.before(call)
        async with asyncio.timeout(20):
            await getattr(turn, call)()

    with pytest.raises(error):
        asyncio.run(scenario())
    received = SAID if call == "stream" else ""
    assert is_interrupted(turn.Chat.get_context(turn.key), WORDS, received, error.__name__)


@pytest.mark.parametrize("call", ["continue_", "stream"])
def test_a_task_cancelled_before_it_runs_does_not_begin_a_turn(file: Any, call: str) -> None:
    turn = Turn(chat_model(file, provider=AsyncHalves()))

    async def scenario() -> None:
        await turn.before(call)
        task = asyncio.create_task(getattr(turn, call)())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert [message.text for message in turn.Chat.get_context(turn.key).messages] == ["fast, before", WHOLE]
