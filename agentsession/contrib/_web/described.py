"""What the routes give, described for an OpenAPI page. The JSON itself is made in `shown.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

Out = TypeVar("Out")

PROBLEMS = {
    401: "Nobody is logged in",
    404: "There is no such session",
    409: "A turn is running or waits for an approval, or there is nothing to resume or to decide",
    413: "The body is too large",
    415: "The Content-Type is not application/json",
    422: "The request does not fit",
    502: "The turn failed; the session can be resumed",
    503: "The database went away during the turn",
}

EVENTS = [
    "turn_started",
    "text_delta",
    "thinking_delta",
    "partial_output",
    "output_retry",
    "tool_started",
    "tool_progress",
    "tool_finished",
    "approval_needed",
    "turn_finished",
    "stream_failed",
]

DATA = {
    "type": "string",
    "contentMediaType": "application/json",
    "contentSchema": {"type": "object", "properties": {"type": {"enum": EVENTS}}, "required": ["type"]},
}
EVENT = {
    "type": "object",
    "properties": {"event": {"enum": EVENTS}, "data": DATA},
    "required": ["event", "data"],
}
"""One of the Server-Sent Events, as OpenAPI 3.2 describes the items of a stream."""


class Usage(BaseModel):
    """Tokens that the turn was billed for."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0


class Error(BaseModel):
    type: str
    message: str


class Approval(BaseModel):
    """A call of a tool that waits for somebody's approval, with the arguments that the model wrote."""

    call: str
    tool: str
    arguments: dict[str, Any]


class Approvals(BaseModel):
    approvals: list[Approval]


class Turn(BaseModel):
    """`partial` is what has come so far of the reply of a running turn, `approvals` are the calls that one
    with the status `awaiting_approval` waits for. `until` is when the lease of a running turn ends, or the
    time for an approval, in seconds since 1970 on the database's clock. A turn whose process died is
    `interrupted` once its lease is over."""

    id: str
    status: str
    error: Error | None
    until: float | None
    partial: str
    usage: Usage
    approvals: list[Approval]


class Result(BaseModel, Generic[Out]):
    """`output` is null where a stored reply no longer fits. `cost` is in US dollars, `duration` in
    seconds."""

    output: Out | None
    text: str
    thinking: str
    usage: Usage
    cost: float | None
    model: str
    finish_reason: str
    duration: float


class Message(BaseModel):
    """`content` is text, a list of parts, or an object for structured input; `status` tells that the turn
    has failed or was interrupted, `outcome` what came of the call whose result a message of the role `tool`
    is."""

    id: str
    turn: str
    role: str
    text: str
    content: str | list[dict[str, Any]] | dict[str, Any]
    thinking: str = ""
    status: str | None = None
    outcome: str | None = None


class Session(BaseModel):
    id: str | int
    status: str | None
    turn: Turn | None
    messages: list[Message]


class TurnReply(BaseModel):
    id: str | int
    turn: Turn


class ResultReply(TurnReply, Generic[Out]):
    result: Result[Out]


class WaitingReply(TurnReply):
    """Once the turn's `approvals` are decided, it can be resumed."""

    result: None


class ListedSession(BaseModel):
    id: str | int
    status: str | None
    updated: datetime | None


class Page(BaseModel):
    """The newest first; `next` is the `before` of the next page."""

    sessions: list[ListedSession]
    next: str | None


class Problem(BaseModel):
    """Problem details, RFC 9457; `session` is there where one can be resumed."""

    type: str
    title: str
    status: int
    detail: str
    session: str | int | None = None
