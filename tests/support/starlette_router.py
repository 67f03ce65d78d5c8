"""A router for Starlette alone: what another web framework needs to serve the routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.routing import Route as Path

from agentsession.contrib._web.event_stream import asgi_response
from agentsession.contrib._web.guard import check_request
from agentsession.contrib._web.problems import BODY_TOO_LARGE, Refused, problem_response
from agentsession.contrib._web.requests import SessionRequest, limit_of, parsed, present
from agentsession.contrib._web.routes import Route
from agentsession.contrib._web.session_api import SessionApi
from agentsession.errors import AgentSessionError
from tests.support.web_clients import Web, asgi_web

Sources = Mapping[str, Callable[[Request], Any]]


def session_routes(
    model: Any, *, actor: Any = None, instruction_args: Any = None, approvals: bool = True
) -> list[Path]:
    api = SessionApi(model, "session_routes", actor, instruction_args, approvals)
    sources: Sources = {
        "id": lambda request: request.path_params["id"],
        "actor": lambda request: None if actor is None else present(actor(request)),
        "instruction_args": lambda _: instruction_args() if callable(instruction_args) else instruction_args,
        "idempotency_key": lambda request: request.headers.get("Idempotency-Key"),
        "limit": lambda request: limit_of(request.query_params.get("limit")),
        "before": lambda request: request.query_params.get("before"),
    }
    return [Path(each.path, endpoint(api, each, sources), methods=[each.method]) for each in api.routes]


def endpoint(api: SessionApi, route: Route, sources: Sources) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            check_request(request.method, request.headers.get, api.body_limit)
            values = {name: read(request) for name, read in sources.items() if name in route.values}
            if "body" in route.values:
                content = await limited_body(request, api.body_limit)
                values["body"] = parsed(request.headers.get("Content-Type"), lambda: content)
            return asgi_response(await api.arun(route, SessionRequest(**values)))
        except (AgentSessionError, Refused) as error:
            return asgi_response(problem_response(error))

    return respond


async def limited_body(request: Request, limit: int) -> bytes:
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise Refused(BODY_TOO_LARGE)
    return content


def starlette_web(model: Any, **options: Any) -> Web:
    def user(request: Request) -> str | None:
        return request.headers.get("X-User")

    routes = session_routes(model, **({"actor": user} | options))
    return asgi_web(Starlette(routes=[Mount("/chats", routes=routes)]))
