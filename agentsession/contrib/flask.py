"""Sessions in a Flask app: `session_blueprint`. Needs the extra `flask`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import peewee

try:
    from flask import Blueprint, Response, request
except ImportError as missing:
    fix = "pip install 'agentsession[flask]'"
    raise ImportError(f"agentsession.contrib.flask needs Flask: {fix}") from missing

from agentsession import actions, info
from agentsession._json_values import Json, compact
from agentsession._store.connection import released
from agentsession.actions.streams import PING, TurnStream
from agentsession.contrib._web.decisions import decide
from agentsession.contrib._web.declared import has_approvals, refuse_undeclared
from agentsession.contrib._web.guard import LimitedBody, body_limit, check_request, is_json
from agentsession.contrib._web.problems import (
    MEDIA_TYPE,
    NO_JSON,
    NO_JSON_TYPE,
    STREAM_HEADERS,
    Refused,
    last_event,
    problem_of,
)
from agentsession.contrib._web.requests import is_wrapped, limit_of, present, unwrapped
from agentsession.contrib._web.shown import approvals_json, page_json, result_reply, session_json, turn_reply
from agentsession.errors import AgentSessionError


def session_blueprint(
    model: type[peewee.Model],
    *,
    actor: Callable[[], Any] | None = None,
    instruction_args: Callable[[], Any] | Mapping[str, Any] | None = None,
    approvals: bool = True,
    name: str | None = None,
    url_prefix: str | None = None,
) -> Blueprint:
    """Routes by which a browser holds the conversations of a model: those of `session_router`.

    `actor` is called in each request and gives whose sessions it may see, by `flask.g` or `flask.session`: a
    value of the model's `owner_attribute`, or a record; None is answered with 401. `instruction_args` are the
    values of the instruction's variables for new sessions, or a function that gives them. `name` is the
    blueprint's, the model's by default.

    A database connection that the app has opened for the request is closed before the model is asked. A
    client that hangs up is noticed with the next event, or with the comment that is sent after 15 seconds
    without one: the turn then ends as `interrupted`. Whoever may see a session may also approve the calls of
    its tools, unless `approvals=False` leaves these routes out.

    Raises `DslError` where the actor or the arguments are missing.

    ```python
    from flask import Flask

    from agentsession.contrib.flask import session_blueprint

    app = Flask("chat")
    chats = session_blueprint(ChatAgent, instruction_args={"company_name": "Acme"}, url_prefix="/chats")
    app.register_blueprint(chats)
    ```
    """
    refuse_undeclared(model, "session_blueprint", actor, instruction_args)
    blueprint = Blueprint(name or model.__name__, __name__, url_prefix=url_prefix)
    _add_guard(blueprint, body_limit(model))
    requested = Requested(model, actor, instruction_args)
    _add_turns(blueprint, requested)
    _add_streams(blueprint, requested)
    if info.session_options(model).updated_attribute is not None:
        _add_list(blueprint, requested)
    if approvals and has_approvals(model):
        _add_approvals(blueprint, requested)
    _add_session(blueprint, requested)
    for kind in (AgentSessionError, Refused):
        blueprint.register_error_handler(kind, _problem)
    return blueprint


class Requested:
    """What the request that is being answered gives to an action."""

    def __init__(self, model: type[Any], actor: Any, instruction_args: Any) -> None:
        self.model = model
        self._actor = actor
        self._instruction_args = instruction_args
        self._wrapped = is_wrapped(model)

    @property
    def whose(self) -> dict[str, Any]:
        return {} if self._actor is None else {"actor": present(self._actor())}

    @property
    def key(self) -> dict[str, Any]:
        return {**self.whose, "idempotency_key": request.headers.get("Idempotency-Key")}

    @property
    def start(self) -> dict[str, Any]:
        given = self._instruction_args
        return {**self.key, "instruction_args": given() if callable(given) else given}

    @property
    def said(self) -> Any:
        return unwrapped(self.body) if self._wrapped else self.body

    @property
    def body(self) -> Any:
        if not is_json(request.content_type):
            raise Refused(NO_JSON_TYPE)
        try:
            return json.loads(request.get_data())
        except (ValueError, RecursionError):
            raise Refused(NO_JSON) from None


def _add_guard(blueprint: Blueprint, limit: int) -> None:
    @blueprint.before_request
    def guard() -> None:
        check_request(request.method, request.headers.get, limit)
        request.environ["wsgi.input"] = LimitedBody(request.environ["wsgi.input"], limit)


def _add_turns(blueprint: Blueprint, requested: Requested) -> None:
    model = requested.model

    @blueprint.post("/")
    def start_session() -> Response:
        options, said = requested.start, requested.said
        with released(model):
            record = actions.start_session(model, said, **options)
        return _json(*result_reply(record, 201))

    @blueprint.post("/<id>/messages")
    def continue_session(id: str) -> Response:
        options, said = requested.key, requested.said
        with released(model):
            record = actions.continue_session(model, id, said, **options)
        return _json(*result_reply(record))

    @blueprint.post("/<id>/resume")
    def resume_session(id: str) -> Response:
        options = requested.whose
        with released(model):
            record = actions.resume_session(model, id, **options)
        return _json(*result_reply(record))


def _add_streams(blueprint: Blueprint, requested: Requested) -> None:
    model = requested.model

    @blueprint.post("/stream")
    def stream_start_session() -> Response:
        options, said = requested.start, requested.said
        with released(model):
            return _streamed(actions.stream_start_session(model, said, **options))

    @blueprint.post("/<id>/messages/stream")
    def stream_continue_session(id: str) -> Response:
        options, said = requested.key, requested.said
        with released(model):
            return _streamed(actions.stream_continue_session(model, id, said, **options))

    @blueprint.post("/<id>/resume/stream")
    def stream_resume_session(id: str) -> Response:
        options = requested.whose
        with released(model):
            return _streamed(actions.stream_resume_session(model, id, **options))


def _add_list(blueprint: Blueprint, requested: Requested) -> None:
    @blueprint.get("/")
    def list_sessions() -> Response:
        options, before = requested.whose, request.args.get("before")
        limit = limit_of(request.args.get("limit"))
        page = actions.list_sessions(requested.model, limit=limit, before=before, **options)
        return _json(page_json(page))


def _add_approvals(blueprint: Blueprint, requested: Requested) -> None:
    model = requested.model

    @blueprint.get("/<id>/approvals")
    def list_approvals(id: str) -> Response:
        return _json(approvals_json(actions.approvals(model, id, **requested.whose)))

    @blueprint.post("/<id>/approvals")
    def decide_approval(id: str) -> Response:
        options, body = requested.whose, requested.body
        return _json(decide(model, id, body, **options))


def _add_session(blueprint: Blueprint, requested: Requested) -> None:
    model = requested.model

    @blueprint.get("/<id>")
    def get_session(id: str) -> Response:
        return _json(session_json(model, id, actions.get_context(model, id, **requested.whose)))

    @blueprint.post("/<id>/cancel")
    def cancel_session(id: str) -> Response:
        return _json(turn_reply(actions.cancel_session(model, id, **requested.whose)))

    @blueprint.delete("/<id>")
    def delete_session(id: str) -> Response:
        actions.delete_session(model, id, **requested.whose)
        return Response(status=204)


def _streamed(stream: TurnStream[Any]) -> Response:
    """Closed with the response, also where its iteration never began."""
    response = Response(_told(stream), mimetype="text/event-stream", headers=STREAM_HEADERS)
    response.call_on_close(stream.close)
    return response


def _told(stream: TurnStream[Any]) -> Iterator[str]:
    stream.ping_after(PING)
    try:
        for event in stream:
            yield event.sse()
    except AgentSessionError as error:
        yield last_event(error)


def _problem(error: Exception) -> Response:
    problem = problem_of(error)
    if problem is None:
        raise error
    return _json(problem.json, problem.status, problem.headers, MEDIA_TYPE)


def _json(
    value: Json, status: int = 200, headers: Mapping[str, str] | None = None, type: str = "application/json"
) -> Response:
    return Response(compact(value), status, headers, mimetype=type)
