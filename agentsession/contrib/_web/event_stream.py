"""A turn as Server-Sent Events from an ASGI app."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from agentsession.actions.streams import PING, AsyncTurnStream
from agentsession.contrib._web.problems import STREAM_HEADERS, last_event
from agentsession.errors import AgentSessionError


class EventStream(StreamingResponse):
    """The events of a stream that has begun. When the client hangs up, the turn ends there and then."""

    media_type = "text/event-stream"

    def __init__(self, stream: AsyncTurnStream[Any]) -> None:
        self.stream = stream
        self.events = told(stream)
        super().__init__(self.events, headers=STREAM_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """From ASGI 2.4 on Starlette notices a client that has gone when it next sends something, before that
        it listens, too: a model may be silent for long."""
        listening = {**scope, "asgi": {**scope.get("asgi", {}), "spec_version": "2.3"}}
        async with self.stream, aclosing(self.events):
            await super().__call__(listening, receive, send)


async def told(stream: AsyncTurnStream[Any]) -> AsyncGenerator[str, None]:
    stream.ping_after(PING)
    try:
        async for event in stream:
            yield event.sse()
    except AgentSessionError as error:
        yield last_event(error)
