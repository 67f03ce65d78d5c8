"""The table of routes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import peewee

from agentsession.contrib._web.action_calls import ActionCall, ActionCalls, decide_call
from agentsession.contrib._web.requests import DecisionBody, SessionRequest, input_model
from agentsession.contrib._web.responses import (
    ApprovalsBody,
    PageBody,
    ResultReply,
    SessionBody,
    TurnReply,
)

Model = type[peewee.Model]

READ = (401, 404, 422)
CHANGE = (401, 404, 409, 413, 415, 422)
TURN = (*CHANGE, 502, 503)

BY_ID = ("id", "actor")
START = ("actor", "instruction_args", "idempotency_key", "body")
CONTINUE = (*BY_ID, "idempotency_key", "body")
PAGE = ("limit", "before", "actor")


@dataclass(frozen=True, kw_only=True)
class Route:
    """A route of a session model.

    It calls the action of its name, unless `action` names another one or `calls` makes several calls.
    `values` are the attributes of `SessionRequest` that it uses. `request` returns the type of the request's
    body, and `response` is the `RouteBody` of the response. `problems` are the statuses of its errors. A
    route with a `feature` exists where the model has that feature.
    """

    method: str
    path: str
    name: str
    text: str
    values: tuple[str, ...]
    problems: tuple[int, ...]
    action: str = ""
    status: int = 200
    request: Callable[[Model], Any] | None = None
    response: Any = None
    calls: Callable[[Model, SessionRequest], ActionCalls] | None = None
    runs_turn: bool = False
    is_streamed: bool = False
    feature: Literal["list", "approvals"] | None = None

    def calls_of(self, model: Model, request: SessionRequest) -> ActionCalls:
        """Return the calls that answer a request."""
        if self.calls is not None:
            return (yield from self.calls(model, request))
        positional = [getattr(request, name) for name in ("id", "body") if name in self.values]
        named = [name for name in self.values if name not in ("id", "body")]
        options = {name: getattr(request, name) for name in named}
        return (yield ActionCall(self.action or self.name, (model, *positional), options))


def _turn(*, values: tuple[str, ...], **row: Any) -> Route:
    """Return a route that runs a turn and answers with its result."""
    return Route(
        method="POST",
        values=values,
        problems=TURN,
        request=input_model if "body" in values else None,
        response=ResultReply,
        runs_turn=True,
        **row,
    )


def _stream(*, values: tuple[str, ...], **row: Any) -> Route:
    """Return a route that runs a turn and answers with its events."""
    return Route(
        method="POST",
        values=values,
        problems=TURN,
        request=input_model if "body" in values else None,
        runs_turn=True,
        is_streamed=True,
        **row,
    )


ROUTES = (
    _turn(
        path="/",
        name="start_session",
        text="Begin a session with its first message, and return the reply.",
        values=START,
        status=201,
    ),
    _stream(
        path="/stream",
        name="stream_start_session",
        text="Begin a session with its first message, and stream the reply.",
        values=START,
    ),
    _turn(
        path="/{id}/messages",
        name="continue_session",
        text="Send the next message, and return the reply.",
        values=CONTINUE,
    ),
    _stream(
        path="/{id}/messages/stream",
        name="stream_continue_session",
        text="Send the next message, and stream the reply.",
        values=CONTINUE,
    ),
    _turn(
        path="/{id}/resume",
        name="resume_session",
        text="Run the latest turn again if it did not complete, and return the reply.",
        values=BY_ID,
    ),
    _stream(
        path="/{id}/resume/stream",
        name="stream_resume_session",
        text="Run the latest turn again if it did not complete, and stream the reply.",
        values=BY_ID,
    ),
    Route(
        method="GET",
        path="/",
        name="list_sessions",
        text="Return the sessions by their last activity, the newest first.",
        values=PAGE,
        problems=(401, 422),
        response=PageBody,
        feature="list",
    ),
    Route(
        method="GET",
        path="/{id}/approvals",
        name="list_approvals",
        action="approvals",
        text="Return the calls of the latest turn that wait for an approval.",
        values=BY_ID,
        problems=READ,
        response=ApprovalsBody,
        feature="approvals",
    ),
    Route(
        method="POST",
        path="/{id}/approvals",
        name="decide_approval",
        text="Decide about a call. Resume the session once `turn.approvals` is empty.",
        values=(*BY_ID, "body"),
        problems=CHANGE,
        request=lambda _model: DecisionBody,
        response=TurnReply,
        calls=decide_call,
        feature="approvals",
    ),
    Route(
        method="GET",
        path="/{id}",
        name="get_session",
        action="get_context",
        text="Return the conversation. While a turn runs, `turn.partial` is the reply received so far.",
        values=BY_ID,
        problems=READ,
        response=SessionBody,
    ),
    Route(
        method="POST",
        path="/{id}/cancel",
        name="cancel_session",
        text="Stop the running turn. A turn that has ended stays as it is.",
        values=BY_ID,
        problems=CHANGE,
        response=TurnReply,
    ),
    Route(
        method="DELETE",
        path="/{id}",
        name="delete_session",
        text="Delete the session with its conversation.",
        values=BY_ID,
        problems=READ,
        status=204,
    ),
)
