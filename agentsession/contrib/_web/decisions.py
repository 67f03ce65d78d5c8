"""What a client decides about a call that waits for an approval, and how it is done."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from agentsession import actions
from agentsession._json_values import Json, JsonMap
from agentsession._schema import Schema, SchemaMismatch
from agentsession.actions.approvals import Approval, approval_of
from agentsession.context import Context
from agentsession.contrib._web.problems import Problem, Refused
from agentsession.contrib._web.shown import decided_reply
from agentsession.errors import NothingToApprove


class Approve(BaseModel, extra="forbid"):
    """Let the call be run as it is."""

    call: str
    decision: Literal["approve"]


class Reject(BaseModel, extra="forbid"):
    """Have the call not run; the model is told, with the reason."""

    call: str
    decision: Literal["reject"]
    reason: str = ""


class Edit(BaseModel, extra="forbid"):
    """Let the call be run with these arguments instead; the model is told."""

    call: str
    decision: Literal["edit"]
    arguments: dict[str, Any]


class Decision(RootModel[Annotated[Approve | Reject | Edit, Field(discriminator="decision")]]):
    """What is decided about a call. Who decides is not said here: it is the actor of the request."""


_DECISION = Schema(Decision)


def decide(model: type[Any], session: str, body: Json, *, actor: Any = None) -> JsonMap:
    """Do what the body of a request decides, by the actor of the request; gives what still waits."""
    given = _read(body)
    context = actions.get_context(model, session, last=1, actor=actor)
    approval = _asked(model, session, context, given.call, actor)
    getattr(approval, given.decision)(**_told(given), by=actor)
    return decided_reply(model, session, actions.get_context(model, session, last=1, actor=actor))


async def adecide(model: type[Any], session: str, body: Json, *, actor: Any = None) -> JsonMap:
    given = _read(body)
    context = await actions.aget_context(model, session, last=1, actor=actor)
    approval = _asked(model, session, context, given.call, actor)
    await getattr(approval, f"a{given.decision}")(**_told(given), by=actor)
    return decided_reply(model, session, await actions.aget_context(model, session, last=1, actor=actor))


def _read(body: Json) -> Approve | Reject | Edit:
    try:
        given: Decision = _DECISION.load(body)
        _DECISION.dump(given)
    except SchemaMismatch as mismatch:
        found = f"the decision (approve, reject or edit) does not fit: {mismatch}"
        raise Refused(Problem(422, "InputInvalid", found)) from None
    return given.root


def _asked(model: type[Any], session: str, context: Context, call: str, actor: Any) -> Approval:
    """The call, decided or not: a client that lost the answer may say the same again."""
    asked = None if context.turn is None else context.turn.approval_of(call)
    if asked is not None:
        return approval_of(model, session, asked, actor)
    raise NothingToApprove("no call of the latest turn with this key waits for an approval")


def _told(given: Approve | Reject | Edit) -> JsonMap:
    return given.model_dump(exclude={"call", "decision"})
