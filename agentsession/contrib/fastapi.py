"""Sessions in a FastAPI app: `session_router`. Needs the extra `fastapi`."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Annotated, Any

import peewee
from pydantic import WrapValidator

try:
    from fastapi import APIRouter, Body, Depends, Header, HTTPException, Query, Request, Response
except ImportError as missing:
    fix = "pip install 'agentsession[fastapi]'"
    raise ImportError(f"agentsession.contrib.fastapi needs FastAPI: {fix}") from missing

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.types import Message, Receive

from agentsession.contrib._web import openapi
from agentsession.contrib._web.event_stream import asgi_response
from agentsession.contrib._web.guard import check_request
from agentsession.contrib._web.problems import (
    BODY_TOO_LARGE,
    NO_JSON_TYPE,
    Refused,
    invalid,
    mismatch,
    problem_response,
    refusal,
)
from agentsession.contrib._web.requests import MAX_PAGE_SIZE, PAGE_SIZE, SessionRequest, present
from agentsession.contrib._web.routes import Route
from agentsession.contrib._web.session_api import SessionApi
from agentsession.errors import AgentSessionError

ParametersByName = dict[str, Parameter]
"""The parameter of an endpoint for each attribute of `SessionRequest`: FastAPI reads signatures."""


def session_router(
    model: type[peewee.Model],
    *,
    actor: Callable[..., Any] | None = None,
    instruction_args: Callable[..., Any] | Mapping[str, Any] | None = None,
    approvals: bool = True,
    prefix: str = "",
    tags: Sequence[str] | None = None,
) -> APIRouter:
    """Return a router with the routes of a session model.

    A browser starts, lists, reads, continues, streams, resumes, cancels and deletes sessions with them. If a
    tool of the agent needs an approval, a turn that waits for one is a 202, and two more routes list and
    decide such calls.

    The body of a message has the form of the agent's input schema. The header `Idempotency-Key` identifies a
    message. Errors are problem details (RFC 9457). A failed turn is a 502 with the id of the session, which
    can be resumed. A POST that is not JSON is a 415, so that the page of another site cannot call an action
    with the user's cookies. A body of more than three times the model's `max_input_bytes` plus 64 KiB is a
    413, and is not read further.

    If the client of a streamed turn disconnects, the turn ends as `interrupted`. No database connection is
    held while the model answers.

    Args:
        model: The session model. The database may be asynchronous.
        actor: A dependency that returns the actor of a request: a value of the model's `owner_attribute`, or
            a record. The actor sees only its own sessions; None is a 401. Required if the model has an
            `owner_attribute`. Without one, all users see all sessions.
        instruction_args: The values of the instruction's variables for new sessions, or a dependency that
            returns them. Do not read them from values that the client sends.
        approvals: False leaves out the routes that list and decide calls. With True, everyone who sees a
            session can approve its calls.
        prefix: The prefix of the paths.
        tags: The tags of the routes in OpenAPI. The default is the name of the model.

    Returns:
        The router, for `app.include_router`.

    Raises:
        DslError: The model is not a session model, or `actor` or `instruction_args` do not fit it.

    Example:
        ```python
        from fastapi import FastAPI

        from agentsession.contrib.fastapi import session_router

        app = FastAPI()
        chats = session_router(ChatAgent, instruction_args={"company_name": "Acme"}, prefix="/chats")
        app.include_router(chats)
        ```
    """
    api = SessionApi(model, "session_router", actor, instruction_args, approvals)
    router = APIRouter(
        prefix=prefix,
        tags=[model.__name__] if tags is None else [*tags],
        route_class=_problem_route(api.body_limit),
    )
    sources = _sources(actor, instruction_args)
    for route in api.routes:
        body = _body(api.request_model(route))
        parameters = [{**sources, "body": body}[name] for name in route.values if name != "actor" or actor]
        router.add_api_route(
            route.path,
            _endpoint(api, route, parameters),
            methods=[route.method],
            name=route.name,
            description=route.text,
            status_code=route.status,
            response_model=api.response_model(route),
            responses=api.other_responses(route),
            response_class=Response if route.is_streamed else JSONResponse,
        )
    return router


def _endpoint(api: SessionApi, route: Route, parameters: list[Parameter]) -> Callable[..., Any]:
    async def endpoint(**values: Any) -> Response:
        return asgi_response(await api.arun(route, SessionRequest(**values)))

    # FastAPI reads the parameters of a route from its signature; those of a table have none of their own.
    endpoint.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return endpoint


def _sources(
    actor: Callable[..., Any] | None, instruction_args: Callable[..., Any] | Mapping[str, Any] | None
) -> ParametersByName:
    async def fixed_args() -> Any:
        return instruction_args

    args = instruction_args if callable(instruction_args) else fixed_args
    key = Header(alias="Idempotency-Key", description=openapi.IDEMPOTENCY_KEY)
    parameters = (
        _parameter("id", str),
        _parameter("actor", Any, Depends(_present(actor))),
        _parameter("instruction_args", Any, Depends(args)),
        _parameter("idempotency_key", Annotated[str | None, key], None),
        _parameter("limit", Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)], PAGE_SIZE),
        _parameter("before", Annotated[str | None, Query(description=openapi.BEFORE)], None),
    )
    return {each.name: each for each in parameters}


def _parameter(name: str, annotation: Any, default: Any = Parameter.empty) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _present(actor: Callable[..., Any] | None) -> Callable[..., Any]:
    async def present_actor(found: Annotated[Any, Depends(actor)]) -> Any:
        return present(found)

    return present_actor


def _body(schema: Any) -> Parameter:
    """Return the parameter of the body. The schema describes it; only the action validates it."""

    async def read(body: Any) -> Any:
        if isinstance(body, bytes):
            raise Refused(NO_JSON_TYPE)
        return body

    read.__annotations__["body"] = Annotated[schema, Body(), WrapValidator(lambda value, _: value)]
    return _parameter("body", Any, Depends(read))


class BodyTooLarge(HTTPException):
    """The body is too large. FastAPI turns other exceptions of a body that it reads into a status of 400."""


def _problem_route(limit: int) -> type[APIRoute]:
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
    remaining = limit

    async def limited() -> Message:
        nonlocal remaining
        message = await receive()
        remaining -= len(message.get("body", b""))
        if remaining < 0:
            raise BodyTooLarge(BODY_TOO_LARGE.status)
        return message

    return limited
