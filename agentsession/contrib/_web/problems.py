"""Our errors as problem details (RFC 9457): what a client may know, and no word of the provider's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from agentsession._json_values import Json, JsonMap
from agentsession._turn_state import AWAITING, Turn
from agentsession.errors import (
    AgentSessionError,
    IdempotencyMismatch,
    InputInvalid,
    LeaseLost,
    NoResult,
    NothingToApprove,
    NothingToResume,
    SessionBusy,
    SessionNotFound,
    StorageFailed,
    TurnCancelled,
    TurnFailed,
)
from agentsession.events import StreamFailed, client_message

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER = "2"
"""Seconds after which a busy session may be asked again."""

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""A proxy must pass each event on as it comes."""

STATUSES: dict[type[AgentSessionError], int] = {
    SessionNotFound: 404,
    SessionBusy: 409,
    TurnCancelled: 409,
    LeaseLost: 409,
    NothingToResume: 409,
    NothingToApprove: 409,
    NoResult: 409,
    IdempotencyMismatch: 422,
    InputInvalid: 422,
    TurnFailed: 502,
    StorageFailed: 503,
}

GIVEN_BY_THE_CLIENT = ("input", "idempotency_key", "before", "limit", "approval")
"""What an `InputInvalid` may be about that is the client's; all else is the program's mistake."""


@dataclass(frozen=True)
class Problem:
    """`ends_soon`: the same request may do better in a moment."""

    status: int
    title: str
    detail: str
    session: Json = None
    ends_soon: bool = False

    @property
    def json(self) -> JsonMap:
        shown: JsonMap = {
            "type": f"urn:agentsession:{self.title}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        return shown if self.session is None else {**shown, "session": self.session}

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": RETRY_AFTER} if self.ends_soon else {}


class Refused(Exception):
    """A request that comes to no session."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


UNAUTHORIZED = Problem(401, "Unauthorized", "the request does not say whose sessions these are")
NO_JSON_TYPE = Problem(415, "UnsupportedMediaType", "the Content-Type is not application/json")
BODY_TOO_LARGE = Problem(413, "BodyTooLarge", "the body is larger than the server accepts")
NO_JSON = Problem(422, "InputInvalid", "the body is no JSON")
NOT_WRAPPED = Problem(422, "InputInvalid", 'the body is not of the form {"input": …}')


def problem_of(error: Exception) -> Problem | None:
    """None for what is no matter of the client's."""
    if isinstance(error, Refused):
        return error.problem
    if not isinstance(error, AgentSessionError) or _is_the_programs(error):
        return None
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), None)
    if status is None:
        return None
    name, record = type(error).__name__, getattr(error, "session", None)
    detail = client_message(name) if status > 500 else error.found
    ends_soon = isinstance(error, SessionBusy) and error.status != AWAITING
    return Problem(status, name, detail, None if record is None else json_id(record._pk), ends_soon)


def last_event(error: AgentSessionError) -> str:
    """How a stream ends that fails; raises what is no matter of the client's."""
    if problem_of(error) is None:
        raise error
    return StreamFailed.of(error).sse()


def said_of(turn: Turn) -> JsonMap | None:
    """Why a turn did not complete. What is stored of a failed one has the provider's words."""
    if turn.error is None:
        return None
    message = client_message(turn.error.type) if turn.status == "failed" else turn.error.message
    return {"type": turn.error.type, "message": message}


def json_id(key: Any) -> Json:
    """A primary key as the events have it."""
    return msgspec.to_builtins(key, enc_hook=str)  # type: ignore[no-any-return]


def _is_the_programs(error: Any) -> bool:
    return isinstance(error, InputInvalid) and error.where.rpartition(" ")[2] not in GIVEN_BY_THE_CLIENT
