"""The JSON of sessions, turns and results, without claims, hashes and instructions.

The same models serialise the responses and describe them in OpenAPI.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec
import peewee

from agentsession import Approval, Context, Message, Turn, Usage, actions
from agentsession.actions import ListedSession, SessionPage
from agentsession.contrib._web.problems import AWAITING_APPROVAL, json_id
from agentsession.contrib._web.response_body import ResponseBody
from agentsession.events import TurnFinished, client_message

Out = TypeVar("Out")

OPAQUE = "opaque"
"""The type of the part of a message that only the provider reads (see `Message`)."""

MARKS = ("status", "outcome")
"""What a message shows of its metadata."""


@dataclass(frozen=True)
class ActionValue:
    """What the action of a route returned. `session` is the id in the path, if there is one."""

    model: type[peewee.Model]
    session: str
    value: Any

    @property
    def id(self) -> str | int:
        """The id as a stored record has it: an integer, say, or a UUID in its usual form."""
        field: Any = self.model._meta.primary_key
        return json_id(field.python_value(field.db_value(self.session)))


class RouteBody(ResponseBody):
    """The body of the response of a route."""

    @classmethod
    def from_action(cls, found: ActionValue) -> RouteBody:
        raise NotImplementedError


class UsageBody(ResponseBody, component="Usage"):
    """Tokens that the turn was billed for."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    @classmethod
    def of(cls, usage: Usage) -> UsageBody:
        """Return the counts above 0, as the events have them."""
        return cls(**msgspec.to_builtins(usage))


class ErrorBody(ResponseBody, component="Error"):
    type: str
    message: str

    @classmethod
    def of(cls, turn: Turn) -> ErrorBody | None:
        """Return why the turn did not complete. The stored message of a failed one is the provider's."""
        if turn.error is None:
            return None
        message = client_message(turn.error.type) if turn.status == "failed" else turn.error.message
        return cls(type=turn.error.type, message=message)


class ApprovalBody(ResponseBody, component="Approval"):
    """A call of a tool that waits for an approval, with the arguments that the model wrote."""

    call: str
    tool: str
    arguments: dict[str, Any]


class ApprovalsBody(RouteBody, component="Approvals"):
    approvals: list[ApprovalBody]

    @classmethod
    def from_action(cls, found: ActionValue) -> ApprovalsBody:
        approvals: list[Approval] = found.value
        return cls(
            approvals=[
                ApprovalBody(call=each.call, tool=each.tool, arguments=each.arguments) for each in approvals
            ]
        )


class TurnBody(ResponseBody, component="Turn"):
    """`partial` is the text received so far of the reply of a running turn. `approvals` are the calls that a
    turn with the status `awaiting_approval` waits for. `until` is the end of the lease of a running turn, or
    of the time for an approval, in seconds since 1970 on the database's clock. A turn whose process died is
    `interrupted` once its lease is over."""

    id: str
    status: str
    error: ErrorBody | None
    until: float | None
    partial: str
    usage: UsageBody
    approvals: list[ApprovalBody]

    @classmethod
    def of(cls, turn: Turn) -> TurnBody:
        return cls(
            id=turn.id,
            status=turn.status,
            error=ErrorBody.of(turn),
            until=turn.until,
            partial=turn.partial,
            usage=UsageBody.of(turn.usage),
            approvals=[
                ApprovalBody(call=each.call, tool=each.tool, arguments=each.parsed_arguments)
                for each in turn.pending_approvals()
            ],
        )


class ResultBody(ResponseBody, Generic[Out], component="Result"):
    """`output` is null where a stored reply no longer fits. `cost` is in US dollars, `duration` in
    seconds."""

    output: Out | None
    text: str
    thinking: str
    usage: UsageBody
    cost: float | None
    model: str
    finish_reason: str
    duration: float


class MessageBody(ResponseBody, component="Message"):
    """`content` is text, a list of parts, or an object for structured input. `status` is there if the turn
    has failed or was interrupted. `outcome` is there for the role `tool`, and says how the call ended."""

    id: str
    turn: str
    role: str
    text: str
    content: str | list[dict[str, Any]] | dict[str, Any]
    thinking: str = ""
    status: str | None = None
    outcome: str | None = None

    @classmethod
    def of(cls, message: Message) -> MessageBody:
        content = message.content
        if isinstance(content, list):
            content = [part for part in content if part.get("type") != OPAQUE]
        more = {name: message.metadata[name] for name in MARKS if name in message.metadata}
        if message.thinking:
            more["thinking"] = message.thinking
        return cls(
            id=message.id, turn=message.turn, role=message.role, text=message.text, content=content, **more
        )


class SessionBody(RouteBody, component="Session"):
    id: str | int
    status: str | None
    turn: TurnBody | None
    messages: list[MessageBody]

    @classmethod
    def from_action(cls, found: ActionValue) -> SessionBody:
        context: Context = found.value
        turn = context.turn
        return cls(
            id=found.id,
            status=None if turn is None else turn.status,
            turn=None if turn is None else TurnBody.of(turn),
            messages=[MessageBody.of(each) for each in context.messages if each.role != "system"],
        )


class TurnReply(RouteBody):
    id: str | int
    turn: TurnBody

    @classmethod
    def from_action(cls, found: ActionValue) -> RouteBody:
        """Return the latest turn of a record or of a context."""
        value = found.value
        turn: Any = value.turn if isinstance(value, Context) else actions.last_turn(value)
        return cls(id=found.id, turn=TurnBody.of(turn))


class WaitingReply(TurnReply):
    """Once the turn's `approvals` are decided, it can be resumed."""

    result: None


class ResultReply(TurnReply, Generic[Out]):
    result: ResultBody[Out]

    @classmethod
    def from_action(cls, found: ActionValue) -> RouteBody:
        """Return the result of the turn that ran, as in the event `turn_finished`, or what it waits for."""
        record = found.value
        turn, key = actions.last_turn(record), json_id(record._pk)
        if turn.status == AWAITING_APPROVAL:
            return WaitingReply(id=key, turn=TurnBody.of(turn), result=None)
        finished = TurnFinished(turn.id, record, actions.last_result(record)).json()
        result = ResultBody[Any].model_validate(finished["result"])
        return ResultReply(id=key, turn=TurnBody.of(turn), result=result)


class ListedSessionBody(ResponseBody, component="ListedSession"):
    id: str | int
    status: str | None
    updated: datetime | None

    @classmethod
    def of(cls, session: ListedSession) -> ListedSessionBody:
        updated = session.updated and session.updated.replace(tzinfo=UTC)
        return cls(id=json_id(session.id), status=session.status, updated=updated)


class PageBody(RouteBody, component="Page"):
    """The newest first; `next` is the `before` of the next page."""

    sessions: list[ListedSessionBody]
    next: str | None

    @classmethod
    def from_action(cls, found: ActionValue) -> PageBody:
        page: SessionPage = found.value
        return cls(sessions=[ListedSessionBody.of(each) for each in page.sessions], next=page.next)
