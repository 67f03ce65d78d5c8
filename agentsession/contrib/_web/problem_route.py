"""The routes of a FastAPI router: guarded, and with errors that are problem details."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.types import Message, Receive

from agentsession.contrib._web.guard import check_request
from agentsession.contrib._web.problems import BODY_TOO_LARGE, MEDIA_TYPE, Problem, Refused, problem_of
from agentsession.errors import AgentSessionError


class BodyTooLarge(HTTPException):
    """FastAPI lets no other kind of exception out while it reads a body."""


def problem_route(limit: int) -> type[APIRoute]:
    """Return a route class that answers errors of the client as problem details and raises all others.

    It does not read a body of more than `limit` bytes.
    """

    class ProblemRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    check_request(request.method, request.headers.get, limit)
                    return await handle(Request(request.scope, _limited(request.receive, limit)))
                except RequestValidationError as error:
                    problem = _mismatch(error)
                except BodyTooLarge:
                    problem = BODY_TOO_LARGE
                except (AgentSessionError, Refused) as error:
                    found = problem_of(error)
                    if found is None:
                        raise
                    problem = found
                return JSONResponse(problem.json, problem.status, problem.headers, MEDIA_TYPE)

            return answer

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


def _mismatch(error: RequestValidationError) -> Problem:
    """What does not fit, without the values that were given."""
    found = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return Problem(422, "InputInvalid", "; ".join(found))
