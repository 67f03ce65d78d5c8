"""The routes of one model: what a router of any framework serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import peewee

from agentsession import AsyncTurnStream, TurnStream, actions, info
from agentsession.contrib._web import openapi
from agentsession.contrib._web.action_calls import ActionCalls, aperform, perform
from agentsession.contrib._web.declaration import has_approvals, refuse_undeclared
from agentsession.contrib._web.guard import body_limit
from agentsession.contrib._web.requests import SessionRequest, input_model, is_wrapped, unwrapped
from agentsession.contrib._web.response_body import HttpResponse
from agentsession.contrib._web.responses import ActionValue, WaitingReply
from agentsession.contrib._web.routes import ROUTES, Route

InstructionArgs = Callable[..., Any] | Mapping[str, Any] | None


class SessionApi:
    """The routes of a model, and how to answer their requests.

    A router reads the values of `route.values`, calls `run` or `arun`, and writes the response or the stream.
    `maker` is the name of the function that makes the router, for errors.
    """

    def __init__(
        self,
        model: type[peewee.Model],
        maker: str,
        actor: Callable[..., Any] | None,
        instruction_args: InstructionArgs,
        approvals: bool,
    ) -> None:
        refuse_undeclared(model, maker, actor, instruction_args)
        self.model = model
        self.body_limit = body_limit(model)
        self._can_wait = has_approvals(model)
        self._is_wrapped = is_wrapped(model)
        has_list = info.session_options(model).updated_attribute is not None
        features = {None, "list" if has_list else None, "approvals" if approvals and self._can_wait else None}
        self.routes = tuple(route for route in ROUTES if route.feature in features)

    def run(self, route: Route, request: SessionRequest) -> HttpResponse | TurnStream[Any]:
        """Answer a request on this thread.

        A connection that the application opened for the request is closed while the model is asked.
        """
        with actions.release_connection(self.model) if route.runs_turn else nullcontext():
            value = perform(self._calls(route, request))
        response: HttpResponse | TurnStream[Any] = self._response(route, request, value)
        return response

    async def arun(self, route: Route, request: SessionRequest) -> HttpResponse | AsyncTurnStream[Any]:
        """Answer a request on an event loop."""
        value = await aperform(self._calls(route, request))
        response: HttpResponse | AsyncTurnStream[Any] = self._response(route, request, value)
        return response

    def request_model(self, route: Route) -> Any:
        """Return the type that describes the body of a request, or None if the route has none."""
        return None if route.request is None else route.request(self.model)

    def response_model(self, route: Route) -> Any:
        """Return the type that describes the body of a response, or None."""
        if route.runs_turn and not route.is_streamed:
            return route.response[info.output_schema(self.model)]
        return route.response

    def other_responses(self, route: Route) -> dict[int | str, dict[str, Any]]:
        """Return the OpenAPI responses without a `response_model`: problems, streams, turns that wait."""
        found = openapi.problem_responses(route.problems)
        if route.is_streamed:
            return {200: openapi.EVENT_STREAM, **found}
        if route.runs_turn and self._can_wait:
            found[202] = {"description": openapi.WAITING, "model": WaitingReply}
        return found

    def _calls(self, route: Route, request: SessionRequest) -> ActionCalls:
        if self._is_wrapped and route.request is input_model:
            request = replace(request, body=unwrapped(request.body))
        return route.calls_of(self.model, request)

    def _response(self, route: Route, request: SessionRequest, value: Any) -> Any:
        if route.is_streamed:
            return value
        if route.response is None:
            return HttpResponse(route.status)
        body = route.response.from_action(ActionValue(self.model, request.id, value))
        return body.response(202 if isinstance(body, WaitingReply) else route.status)
