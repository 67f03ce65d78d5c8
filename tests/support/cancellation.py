"""Calls whose task is cancelled at their n-th `await`, in each way in which that happens, and what must be
true afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any
from uuid import UUID, uuid4

import anyio

from agentsession import SessionNotFound, TextDelta
from agentsession.context import Context
from tests.support.slow_replies import SAID, WHOLE, Halves, is_completed, is_interrupted, replies

WORDS = "tell me all"
AGAIN = ("resume", "stream_again")


class CancelsAt:
    """Runs a coroutine, and cancels when it waits for the n-th time."""

    def __init__(self, at: int, work: Coroutine[Any, Any, Any], cancel: Callable[[], object]) -> None:
        self.at, self.work, self.cancel = at, work, cancel
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        step, value = self.work.send, None
        while True:
            try:
                waited = step(value)  # type: ignore[arg-type]
            except StopIteration as ended:
                return ended.value
            self.waits += 1
            if self.waits == self.at:
                self.cancel()
            try:
                step, value = self.work.send, (yield waited)
            except BaseException as error:
                step, value = self.work.throw, error  # type: ignore[assignment]


# How a task is cancelled, at its n-th `await`. Each gives whether it was.

Cancels = Callable[[int, Coroutine[Any, Any, Any]], Coroutine[Any, Any, bool]]


async def by_its_task(at: int, work: Coroutine[Any, Any, Any]) -> bool:
    async def task() -> None:
        await CancelsAt(at, work, asyncio.current_task().cancel)  # type: ignore[union-attr]

    (ended,) = await asyncio.gather(asyncio.create_task(task()), return_exceptions=True)
    if ended is not None and not isinstance(ended, asyncio.CancelledError):
        raise ended
    return ended is not None


async def again_and_again(at: int, work: Coroutine[Any, Any, Any]) -> bool:
    """anyio cancels at every `await` until the scope is left."""
    with anyio.CancelScope() as scope:
        await CancelsAt(at, work, scope.cancel)
    return scope.cancelled_caught


async def with_its_group(at: int, work: Coroutine[Any, Any, Any]) -> bool:
    ended = []

    async def task(cancel: Callable[[], object]) -> None:
        await CancelsAt(at, work, cancel)
        ended.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(task, group.cancel_scope.cancel)
    return not ended


async def with_all_others(at: int, work: Coroutine[Any, Any, Any]) -> bool:
    """As `asyncio.run` does at its end: the tasks that write for it are cancelled, too."""
    others = asyncio.all_tasks()

    def cancel() -> None:
        for task in asyncio.all_tasks() - others:
            task.cancel()

    async def task() -> None:
        await CancelsAt(at, work, cancel)

    (ended,) = await asyncio.gather(asyncio.create_task(task()), return_exceptions=True)
    if ended is not None and not isinstance(ended, asyncio.CancelledError):
        raise ended
    return ended is not None


# What is cancelled.


class Turn:
    """A session before the call, the call, and what its caller was told of the reply."""

    def __init__(self, Chat: Any) -> None:
        self.Chat = Chat
        self.key: UUID = uuid4()
        self.told = ""

    async def start(self) -> None:
        await self.Chat.astart_session(WORDS, attributes={"id": self.key})

    async def continue_(self) -> None:
        await self.Chat.acontinue_session(self.key, WORDS)

    async def resume(self) -> None:
        await self.Chat.aresume_session(self.key)

    async def stream(self) -> None:
        async with self.Chat.astream_continue_session(self.key, WORDS) as stream:
            await self.follow(stream)

    async def stream_again(self) -> None:
        async with self.Chat.astream_resume_session(self.key) as stream:
            await self.follow(stream)

    async def follow(self, stream: Any) -> None:
        async for event in stream:
            if isinstance(event, TextDelta):
                self.told += event.text
            await asyncio.sleep(0)

    async def has_come_halfway(self, call: str, model: Halves) -> None:
        while not model.said.is_set() or (call == "stream" and self.told != SAID):
            await asyncio.sleep(0.005)

    async def before(self, call: str) -> None:
        if call == "start":
            return
        await self.Chat.astart_session("fast, before", attributes={"id": self.key})
        if call in AGAIN:
            await self.Chat.acontinue_session(self.key, WORDS, run=False)

    async def context(self) -> Context | None:
        try:
            context: Context = await self.Chat.aget_context(self.key)
        except SessionNotFound:
            return None
        return context

    async def check(self, cancelled: bool) -> str:
        """How it ended: with a status, or before anything was stored."""
        context = await self.context()
        opening = None if context is None else next((m for m in context.messages if m.text == WORDS), None)
        if context is None or opening is None or context.turn is None:
            assert (cancelled, self.told) == (True, "")
            return "nothing"
        status = context.turn.status
        if status == "completed":
            assert is_completed(context, WORDS)
        elif status == "interrupted":
            received = "".join(text for text, _ in replies(context, WORDS))
            assert is_interrupted(context, WORDS, received)
            assert context.turn.error.type in ("CancelledError", "StreamClosed")
            assert WHOLE.startswith(received)
            assert received.startswith(self.told)
        else:
            assert (status, self.told, cancelled) == ("pending", "", True)
        assert cancelled or status == "completed"
        return status

    async def goes_on(self, how: str) -> None:
        """The next call works at once."""
        if how in ("pending", "interrupted"):
            await self.Chat.aresume_session(self.key)
        elif await self.context() is None:
            await self.start()
        else:
            await self.Chat.acontinue_session(self.key, "fast, after")
        context = await self.context()
        assert context is not None
        if how in ("pending", "interrupted"):
            assert is_completed(context, WORDS)
        assert [message.role for message in context.messages] == ["user", "assistant"] * (
            len(context.messages) // 2
        )


async def cancelled_at_each_await(
    Chat: Any, model: Halves, call: str, cancels: Cancels
) -> set[tuple[bool, str]]:
    """All the ways in which it ended. A reply that has come is stored."""
    ways = set()
    for at in range(1, 500):
        turn = Turn(Chat)
        await turn.before(call)
        before, model.answered = tasks(), ""
        cancelled = await cancels(at, getattr(turn, call)())
        assert tasks() == before, "a task was left behind"
        how = await turn.check(cancelled)
        if cancels is by_its_task and model.answered == WORDS:
            assert how == "completed", f"cancelled at await {at}: the reply had come"
        ways.add((cancelled, how))
        await turn.goes_on(how)
        if not cancelled:
            break
    assert (False, "completed") in ways
    assert (True, "interrupted") in ways, "while the model was asked"
    return ways


def tasks() -> set[Any]:
    """All but those with which aiomysql's pool is told of a connection that is free, and those that close
    streams of earlier calls, which a garbage collection has just found."""
    others = ("Pool._wakeup", "_close")
    return {task for task in asyncio.all_tasks() if task.get_coro().__qualname__ not in others}  # type: ignore[union-attr]
