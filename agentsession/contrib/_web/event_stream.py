"""The responses of an ASGI app."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agentsession import AsyncTurnStream
from agentsession.contrib._web.problems import last_event
from agentsession.contrib._web.response_body import PING, STREAM_HEADERS, HttpResponse
from agentsession.errors import AgentSessionError


class EventStream(StreamingResponse):
    """The server-sent events of a turn that has begun. If the client disconnects, the turn ends at once."""

    media_type = "text/event-stream"

    def __init__(self, stream: AsyncTurnStream[Any]) -> None:
        self.stream = stream
        self.events = _events(stream)
        super().__init__(self.events, headers=STREAM_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # From ASGI 2.4 on, Starlette notices a disconnect only when it sends. Before, it also listens, which
        # is needed while a model is silent.
        listening = {**scope, "asgi": {**scope.get("asgi", {}), "spec_version": "2.3"}}
        async with self.stream, aclosing(self.events):
            await super().__call__(listening, receive, send)


def asgi_response(response: HttpResponse | AsyncTurnStream[Any]) -> Response:
    """Return Starlette's response, which is also FastAPI's."""
    if isinstance(response, HttpResponse):
        return Response(response.body, response.status, response.headers, response.media_type)
    return EventStream(response)


async def _events(stream: AsyncTurnStream[Any]) -> AsyncGenerator[str, None]:
    stream.ping_after(PING)
    try:
        async for event in stream:
            yield event.sse()
    except AgentSessionError as error:
        yield last_event(error)
