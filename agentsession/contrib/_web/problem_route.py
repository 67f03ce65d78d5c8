"""The route class of a FastAPI router: it checks requests, and turns errors into problem details."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import Message, Receive

from agentsession.contrib._web.event_stream import asgi_response
from agentsession.contrib._web.guard import check_request
from agentsession.contrib._web.problems import (
    BODY_TOO_LARGE,
    Refused,
    invalid,
    mismatch,
    problem_response,
    refusal,
)
from agentsession.errors import AgentSessionError


class BodyTooLarge(HTTPException):
    """The body is too large. FastAPI turns other exceptions of a body that it reads into a status of 400."""


def problem_route(limit: int) -> type[APIRoute]:
    """Return a route class that answers errors of the client with problem details, and raises all others.

    It reads at most `limit` bytes of a body.
    """

    class ProblemRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def respond(request: Request) -> Response:
                try:
                    check_request(request.method, request.headers.get, limit)
                    return await handle(Request(request.scope, _limited(request.receive, limit)))
                except RequestValidationError as error:
                    problem = refusal(invalid(mismatch(error.errors())))
                except BodyTooLarge:
                    problem = refusal(BODY_TOO_LARGE)
                except (AgentSessionError, Refused) as error:
                    problem = problem_response(error)
                return asgi_response(problem)

            return respond

    return ProblemRoute


def _limited(receive: Receive, limit: int) -> Receive:
    left = limit

    async def received() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise BodyTooLarge(BODY_TOO_LARGE.status)
        return message

    return received
