"""Sessions in a Flask app: `session_blueprint`. Needs the extra `flask`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import peewee

try:
    from flask import Blueprint, Response, request
except ImportError as missing:
    fix = "pip install 'agentsession[flask]'"
    raise ImportError(f"agentsession.contrib.flask needs Flask: {fix}") from missing

from agentsession import TurnStream
from agentsession.contrib._web.guard import LimitedBody, check_request
from agentsession.contrib._web.problems import Refused, last_event, problem_response
from agentsession.contrib._web.requests import SessionRequest, limit_of, parsed, present
from agentsession.contrib._web.response_body import PING, STREAM_HEADERS, HttpResponse
from agentsession.contrib._web.routes import Route
from agentsession.contrib._web.session_api import SessionApi
from agentsession.errors import AgentSessionError

Readers = dict[str, Callable[[], Any]]
"""The function that reads each attribute of `SessionRequest` from Flask's request."""


def session_blueprint(
    model: type[peewee.Model],
    *,
    actor: Callable[[], Any] | None = None,
    instruction_args: Callable[[], Any] | Mapping[str, Any] | None = None,
    approvals: bool = True,
    name: str | None = None,
    url_prefix: str | None = None,
) -> Blueprint:
    """Return a blueprint with the routes of a session model: those of `session_router` for FastAPI.

    A database connection that the application opened for the request is closed before the model is asked.
    Flask notices that the client of a stream has disconnected when it sends the next event, or the comment
    that follows 15 seconds without an event. The turn then ends as `interrupted`.

    Args:
        model: The session model. The database must not be asynchronous.
        actor: A function that returns the actor of a request, from `flask.g` or `flask.session`: a value of
            the model's `owner_attribute`, or a record. The actor sees only its own sessions; None is a 401.
            Required if the model has an `owner_attribute`. Without one, all users see all sessions.
        instruction_args: The values of the instruction's variables for new sessions, or a function that
            returns them. Do not read them from values that the client sends.
        approvals: False leaves out the routes that list and decide calls. With True, everyone who sees a
            session can approve its calls.
        name: The name of the blueprint. The default is the name of the model.
        url_prefix: The prefix of the paths.

    Returns:
        The blueprint, for `app.register_blueprint`.

    Raises:
        DslError: The model is not a session model, or `actor` or `instruction_args` do not fit it.

    Example:
        ```python
        from flask import Flask

        from agentsession.contrib.flask import session_blueprint

        app = Flask("chat")
        chats = session_blueprint(ChatAgent, instruction_args={"company_name": "Acme"}, url_prefix="/chats")
        app.register_blueprint(chats)
        ```
    """
    api = SessionApi(model, "session_blueprint", actor, instruction_args, approvals)
    blueprint = Blueprint(name or model.__name__, __name__, url_prefix=url_prefix)
    blueprint.before_request(_guard(api.body_limit))
    readers = _readers(actor, instruction_args)
    for route in api.routes:
        path, view = route.path.replace("{id}", "<id>"), _view(api, route, readers)
        blueprint.add_url_rule(path, route.name, view, methods=[route.method])
    for kind in (AgentSessionError, Refused):
        blueprint.register_error_handler(kind, lambda error: _written(problem_response(error)))
    return blueprint


def _readers(actor: Callable[[], Any] | None, instruction_args: Any) -> Readers:
    return {
        "actor": lambda: None if actor is None else present(actor()),
        "instruction_args": lambda: instruction_args() if callable(instruction_args) else instruction_args,
        "idempotency_key": lambda: request.headers.get("Idempotency-Key"),
        "limit": lambda: limit_of(request.args.get("limit")),
        "before": lambda: request.args.get("before"),
        "body": lambda: parsed(request.content_type, request.get_data),
    }


def _view(api: SessionApi, route: Route, readers: Readers) -> Callable[..., Response]:
    def view(id: str = "") -> Response:
        values = {name: readers[name]() for name in route.values if name != "id"}
        response = api.run(route, SessionRequest(id, **values))
        return _written(response) if isinstance(response, HttpResponse) else _streamed(response)

    return view


def _guard(limit: int) -> Callable[[], None]:
    def guard() -> None:
        check_request(request.method, request.headers.get, limit)
        request.environ["wsgi.input"] = LimitedBody(request.environ["wsgi.input"], limit)

    return guard


def _written(response: HttpResponse) -> Response:
    return Response(response.body, response.status, response.headers, mimetype=response.media_type)


def _streamed(stream: TurnStream[Any]) -> Response:
    """Return the response with the events. It closes the stream, also if the events are never read."""
    response = Response(_events(stream), mimetype="text/event-stream", headers=STREAM_HEADERS)
    response.call_on_close(stream.close)
    return response


def _events(stream: TurnStream[Any]) -> Iterator[str]:
    stream.ping_after(PING)
    try:
        for event in stream:
            yield event.sse()
    except AgentSessionError as error:
        yield last_event(error)
