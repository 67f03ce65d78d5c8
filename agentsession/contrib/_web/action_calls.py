"""The calls of actions that a route makes, in a form that a thread and an event loop can perform."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import peewee

from agentsession import actions
from agentsession.contrib._web.requests import SessionRequest, decision_of


@dataclass(frozen=True)
class ActionCall:
    """A call of `owner.name(…)`. On an event loop it is `await owner.aname(…)`."""

    name: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    owner: Any = actions

    def run(self) -> Any:
        return getattr(self.owner, self.name)(*self.arguments, **self.options)

    async def arun(self) -> Any:
        return await getattr(self.owner, f"a{self.name}")(*self.arguments, **self.options)


ActionCalls: TypeAlias = Generator[ActionCall, Any, Any]
"""The calls of a route, in order. The generator receives what each call returned."""


def perform(calls: ActionCalls) -> Any:
    """Make the calls and return the last value."""
    value = None
    while True:
        try:
            call = calls.send(value)
        except StopIteration as end:
            return end.value
        value = call.run()


async def aperform(calls: ActionCalls) -> Any:
    """Make the calls on an event loop and return the last value."""
    value = None
    while True:
        try:
            call = calls.send(value)
        except StopIteration as end:
            return end.value
        value = await call.arun()


def decide_call(model: type[peewee.Model], request: SessionRequest) -> ActionCalls:
    """Decide about a call of a tool, as the actor of the request, and return the context after it."""
    decision = decision_of(request.body)
    session, actor = (model, request.id), {"actor": request.actor}
    approval = yield ActionCall("find_approval", (*session, decision.call), actor)
    options = decision.model_dump(exclude={"call", "decision"})
    yield ActionCall(decision.decision, (), {**options, "by": request.actor}, approval)
    context = yield ActionCall("get_context", session, {"last": 1, **actor})
    return context
