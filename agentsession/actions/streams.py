"""Streams: the events of a turn, as its caller reads them."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from agentsession.actions.action import Action
from agentsession.actions.stream_base import StreamBase, aclose_when_dropped, close_when_dropped
from agentsession.errors import AgentSessionError
from agentsession.events import Event, StreamFailed

M = TypeVar("M")

# Proxies close a connection that is silent for a minute.
PING_SECONDS = 15.0


class TurnStream(StreamBase[M]):
    """The events of a turn that has begun, and whose message is stored.

    Iterate over it. Use it as a context manager, so that leaving it early ends the turn: the provider is
    stopped, and the turn is stored as `interrupted`, with the partial reply. A stream that is
    garbage-collected ends its turn, too. If the turn has to wait for approvals, the last events are
    `ApprovalNeeded`.

    Example:
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
        """Return the next event. Raise what the blocking action raises if the turn fails."""
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
            """End the turn, and raise an error that names the function of an async stream."""
            self.close()
            raise TypeError(
                f"{self._name} returns a TurnStream, which `for` and `with` read. "
                f"On an event loop use a{self._name}, which `async for` and `async with` read"
            )

        async def __aenter__(self) -> NoReturn:
            self.__aiter__()

        async def __aexit__(self, *_: object) -> None:
            """Do nothing. `async with` looks this method up before it calls `__aenter__`."""

    def close(self) -> None:
        """End the turn now. Do nothing if it has ended.

        The turn is stored as `interrupted`, with the partial reply.

        Example:
            ```python
            stream = session.stream_continue_session("Tell me more")
            print(next(stream).name)
            stream.close()
            ```
        """
        self._first = None
        self._events.close()
        self._remember_no_result()

    def sse(self, *, ping: float | None = PING_SECONDS) -> Iterator[str]:
        """Yield the events as server-sent events, for a web response.

        An `AgentSessionError` becomes the last event, `stream_failed`. Closing the iterator closes the
        stream.

        Args:
            ping: Seconds without an event after which a comment is sent, so that no proxy closes the
                connection while the model is silent. None sends no comments. While a tool runs on the
                caller's thread (on `:memory:`), none is sent.

        Yields:
            Each event, and its blank line.

        Example:
            ```python
            for text in session.stream_continue_session("Tell me more").sse():
                print(text, end="")
            ```
        """
        try:
            with self:
                self.ping_after(ping)
                for event in self:
                    yield event.sse()
        except AgentSessionError as error:
            yield StreamFailed.of(error).sse()


class AsyncTurnStream(StreamBase[M]):
    """The events of a turn, on an event loop.

    The turn begins with `await stream`, with `async with`, or with the first step of a bare `async for`;
    these raise `SessionBusy` and the like. Leaving it early (the end of `async with`, a cancelled task, a
    client that disconnects) has the effect described at `TurnStream`.

    Example:
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
        """Return the next event. Raise what the blocking action raises if the turn fails."""
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
        """End the turn now. Do nothing if it has ended, or has not begun.

        The turn is stored as `interrupted`, with the partial reply.

        Example:
            ```python
            stream = await session.astream_continue_session("Tell me more")
            print((await anext(stream)).name)
            await stream.aclose()
            ```
        """
        self._first = None
        if self._action is None:
            return
        await self._events.aclose()
        self._remember_no_result()

    async def sse(self, *, ping: float | None = PING_SECONDS) -> AsyncIterator[str]:
        """Yield the events as server-sent events, for a web response.

        An `AgentSessionError` becomes the last event, `stream_failed`. Closing the iterator closes the
        stream.

        Args:
            ping: Seconds without an event after which a comment is sent, so that no proxy closes the
                connection while the model is silent. None sends no comments.

        Yields:
            Each event, and its blank line.

        Example:
            ```python
            async for text in session.astream_continue_session("Tell me more").sse():
                print(text, end="")
            ```
        """
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
