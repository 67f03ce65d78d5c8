"""Streams: a turn as its user follows it, event by event."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar
from weakref import finalize

from agentsession._drive.feed import AsyncFeed, Feed
from agentsession._turn.effects import Outcome
from agentsession.actions.action import Action
from agentsession.context import Result
from agentsession.errors import AgentSessionError, NoResult
from agentsession.events import Event, StreamFailed, TurnFinished

M = TypeVar("M")

PING = 15.0
"""Seconds without an event after which `sse()` gives a sign of life. Proxies close a connection that is
silent for a minute."""


class Followed(Generic[M]):
    """What both kinds of streams know of their turn."""

    _action: Action[M] | None = None
    _events: Any = None
    _finished: TurnFinished | None = None

    @property
    def session(self) -> M:
        """The record, from the moment when the turn is claimed."""
        return self._claimed.record

    @property
    def result(self) -> Result[Any]:
        """The result, once the turn has finished; raises `NoResult` before, and where it did not complete."""
        if self._finished is None:
            fix = "iterate over it first; a turn that waits for an approval has a result once it was resumed"
            raise _not_yet("the stream has not come to the end of a turn", fix)
        return self._finished.result

    @property
    def _claimed(self) -> Action[M]:
        if self._action is None:
            raise _not_yet("the turn has not begun", "await the stream, or enter it with `async with`")
        return self._action

    def _seen(self, event: Event | Outcome) -> Event | None:
        told = self._claimed.told(event)
        if isinstance(told, TurnFinished):
            self._finished = told
        return told

    def ping_after(self, seconds: float | None) -> None:
        """Add an event named `ping` whenever `seconds` pass without an event; None adds none.

        Its `sse()` form is a comment, which a reader of server-sent events skips. For a web response that
        makes its own lines of the events: `sse()` of the stream calls this itself.
        """
        if seconds is not None and not seconds > 0:
            raise ValueError(f"ping is {seconds!r}, not a number of seconds above 0, or None for no pings")
        self._events.pulse.every = seconds

    def _left(self) -> None:
        if self._action is not None and self._finished is None:
            self._action.left()


class TurnStream(Followed[M]):
    """The events of a turn that has begun: its words are stored. Iterate over it; as a context manager it
    ends the turn when you leave early, and the provider is told to stop: the transcript keeps what had come,
    and the turn is `interrupted`. A stream that is dropped ends its turn, too. One whose turn has to wait for
    an approval ends with `ApprovalNeeded`.

    ```python
    with ChatAgent.stream_continue_session(session.id, "Tell me more") as stream:
        for event in stream:
            if isinstance(event, TextDelta):
                print(event.text, end="", flush=True)
    print(stream.result.usage.total_tokens, stream.session.id)
    ```
    """

    def __init__(self, action: Action[M], name: str) -> None:
        self._action = action
        self._name = name
        self._events = action.events()
        close_when_dropped(self, self._events)
        self._first: Event | None = self._next()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """The next event. Raises what the plain action would raise where the turn fails."""
        event, self._first = self._first, None
        return self._next() if event is None else event

    def _next(self) -> Event:
        if self._finished is not None:
            raise StopIteration
        with self._claimed.errors():
            event = self._seen(next(self._events))
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    if not TYPE_CHECKING:

        def __aiter__(self) -> NoReturn:
            """End the turn, and say which function gives an async stream."""
            self.close()
            raise TypeError(
                f"{self._name} gives a TurnStream, which `for` and `with` read. "
                f"On an event loop use a{self._name}, which `async for` and `async with` read"
            )

        async def __aenter__(self) -> NoReturn:
            self.__aiter__()

        async def __aexit__(self, *_: object) -> None:
            """`async with` looks for it before it calls `__aenter__`."""

    def close(self) -> None:
        """End the turn where it is. Nothing happens to one that has ended."""
        self._first = None
        self._events.close()
        self._left()

    def sse(self, *, ping: float | None = PING) -> Iterator[str]:
        """The events in their SSE form, for a web response. One of our errors becomes the last event,
        `stream_failed`; to close the iterator closes the stream.

        After each `ping` seconds without an event a comment comes, so that no proxy takes a silent model for
        a broken connection. A tool that runs on the caller's thread (`:memory:`) has none; None has none at
        all."""
        try:
            with self:
                self.ping_after(ping)
                for event in self:
                    yield event.sse()
        except AgentSessionError as error:
            yield StreamFailed.of(error).sse()


class AsyncTurnStream(Followed[M]):
    """The events of a turn, on an event loop. The turn begins with `await stream`, with `async with`, or with
    the first step of a bare `async for`; that is where `SessionBusy` and the like are raised.

    Leaving it (the end of `async with`, a cancelled task, a client that hangs up) is as for `TurnStream`.

    ```python
    async with ChatAgent.astream_continue_session(session.id, "Tell me more") as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                print(event.text, end="", flush=True)
    ```
    """

    def __init__(self, begin: Callable[[], Action[M]], name: str) -> None:
        self._begin = begin
        self._name = name
        self._is_awaited = False
        self._first: Event | None = None

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def _begun(self) -> None:
        self._is_awaited = True
        if self._action is not None:
            return
        self._action = self._begin()
        self._events = self._action.aevents()
        aclose_when_dropped(self, self._events)
        try:
            self._first = await self._next()
        except BaseException:
            self._action = None
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises what the plain action would raise where the turn fails."""
        await self._begun()
        event, self._first = self._first, None
        return await self._next() if event is None else event

    async def _next(self) -> Event:
        if self._finished is not None:
            raise StopAsyncIteration
        with self._claimed.errors():
            event = self._seen(await self._events.__anext__())
        if event is None:
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Self:
        await self._begun()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the turn where it is. Nothing happens to one that has ended, or not begun."""
        self._first = None
        if self._action is None:
            return
        await self._events.aclose()
        self._left()

    async def sse(self, *, ping: float | None = PING) -> AsyncIterator[str]:
        """The events in their SSE form, for a web response. One of our errors becomes the last event,
        `stream_failed`; to close the iterator closes the stream.

        After each `ping` seconds without an event a comment comes, so that no proxy takes a silent model for
        a broken connection. None has no such comments."""
        try:
            async with self:
                self.ping_after(ping)
                async for event in self:
                    yield event.sse()
        except AgentSessionError as error:
            yield StreamFailed.of(error).sse()

    def __del__(self) -> None:
        if not self._is_awaited:
            warnings.warn(f"{self._name} was never awaited: no turn began", RuntimeWarning, stacklevel=2)


def _not_yet(found: str, fix: str) -> NoResult:
    return NoResult(found, why="an absent result is an error, never a silent None", fix=fix)


_closing: dict[AsyncFeed, asyncio.Task[None] | None] = {}
"""The feeds that are not closed yet. They are held here so that the end of their event loop closes them."""


def close_when_dropped(stream: object, events: Feed) -> None:
    finalize(stream, events.drop)


def aclose_when_dropped(stream: object, events: AsyncFeed) -> None:
    finalize(stream, _close_on, asyncio.get_running_loop(), events)


def _close_on(loop: asyncio.AbstractEventLoop, events: AsyncFeed) -> None:
    for closed in [each for each in list(_closing) if each.has_ended]:
        _closing.pop(closed, None)
    if not loop.is_closed():
        _closing[events] = None
        loop.call_soon_threadsafe(_begin_to_close, events)


def _begin_to_close(events: AsyncFeed) -> None:
    _closing[events] = asyncio.create_task(_close(events))


async def _close(events: AsyncFeed) -> None:
    await events.aclose()
    _closing.pop(events, None)
