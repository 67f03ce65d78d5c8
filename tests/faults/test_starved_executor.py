"""A process whose default executor is full, or whose event loop is blocked, keeps the claims of its turns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from agentsession import SessionBusy, testing
from agentsession.provider import Delta, Reply
from tests.support import servers
from tests.support.lease_watch import eventually, until_of
from tests.support.models import chat_model, texts

pytestmark = pytest.mark.matrix

T = TypeVar("T")

LEASE = {"lease": 1.0}
Extended = Callable[[], bool]


async def with_a_full_executor(action: Coroutine[Any, Any, T]) -> T:
    """Run an action while blocking work of the application occupies every thread of the executor."""
    free, executor = threading.Event(), ThreadPoolExecutor(2)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(executor)
    work = [loop.run_in_executor(None, free.wait) for _ in range(10)]
    acting = asyncio.create_task(action)
    try:
        ended, _ = await asyncio.wait([acting], timeout=30)
    finally:
        free.set()
        await asyncio.gather(*work)
    assert ended, "the action waited for the application's work"
    return await acting


class Coroutines:
    """Replies once the lease has been extended by more than its length."""

    def __init__(self) -> None:
        self.is_extended: Extended = lambda: True

    async def aask(self, request: Any) -> Reply:
        while not self.is_extended():
            await asyncio.sleep(0.05)
        return Reply("answer")

    async def astream(self, request: Any) -> AsyncIterator[Delta | Reply]:
        yield Delta("ans")
        yield await self.aask(request)

    def ask(self, request: Any) -> Reply:
        raise AssertionError("the coroutine was not used")


class Functions:
    """The same as a function, which runs in a thread."""

    def __init__(self) -> None:
        self.is_extended: Extended = lambda: True

    def ask(self, request: Any) -> Reply:
        eventually(self.is_extended)
        return Reply("answer")


class BlocksTheLoop(Coroutines):
    """The same, and it blocks the event loop meanwhile."""

    async def aask(self, request: Any) -> Reply:
        eventually(self.is_extended)
        return Reply("answer")


async def plain(session: Any) -> None:
    await session.acontinue_session("slow")


async def streamed(session: Any) -> None:
    async with session.astream_continue_session("slow") as stream:
        async for _ in stream:
            pass


def lease_watcher(Chat: Any, key: Any) -> Extended:
    """Return a function that returns whether the lease has been extended by more than its length.

    It checks each time that the turn cannot be taken over."""
    first: list[float] = []

    def is_extended() -> bool:
        until = until_of(Chat, key)
        first.append(until)
        with pytest.raises(SessionBusy):
            Chat.resume_session(key)
        return until > first[0] + 1.05

    return is_extended


@pytest.mark.backends("sqlite", "postgres")
@pytest.mark.layouts("document")
@pytest.mark.parametrize("act", [plain, streamed])
@pytest.mark.parametrize("kind", [Coroutines, Functions])
def test_a_process_whose_default_executor_is_full_keeps_its_claims(
    database: Any, kind: Any, act: Callable[[Any], Any]
) -> None:
    model = kind()
    Chat = chat_model(database, provider=model, session=LEASE)
    session = Chat.start_session("Hello") if kind is Functions else asyncio.run(Chat.astart_session("Hello"))
    other = chat_model(servers.open_database(database.url), create=False)
    model.is_extended = lease_watcher(other, session.id)

    asyncio.run(with_a_full_executor(act(session)))
    assert texts(Chat, session)[2:] == ["slow", "answer"]


@pytest.mark.layouts("document")
def test_a_turn_runs_its_tools_while_the_default_executor_is_full(database: Any) -> None:
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    Chat = chat_model(database, tools=[add])

    with testing.script(Chat, [testing.tool_call("add", a=1, b=2), "three"]):
        session = asyncio.run(with_a_full_executor(Chat.astart_session("1 + 2?")))
    assert session.last_result.text == "three"


@pytest.mark.backends("sqlite", "postgres")
@pytest.mark.layouts("document")
def test_a_process_whose_event_loop_is_blocked_keeps_its_claims(database: Any) -> None:
    model = BlocksTheLoop()
    Chat = chat_model(database, provider=model, session=LEASE)
    session = asyncio.run(Chat.astart_session("Hello"))
    other = chat_model(servers.open_database(database.url), create=False)
    model.is_extended = lease_watcher(other, session.id)
    asyncio.run(plain(session))
    assert texts(Chat, session)[2:] == ["slow", "answer"]
