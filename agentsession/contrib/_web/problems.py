"""Errors as problem details (RFC 9457). They never contain the text of a provider, a tool or a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from agentsession.contrib._web.response_body import HttpResponse, ResponseBody
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

AWAITING_APPROVAL = "awaiting_approval"
"""The status of a turn that waits for an approval."""

RETRY_AFTER = "2"
"""Seconds after which a client may try a busy session again."""

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

CLIENT_VALUES = ("input", "idempotency_key", "before", "limit", "approval")
"""The values of a request that an `InputInvalid` can name. Any other one is a mistake of the application."""

MAX_ERRORS, MAX_DETAIL = 10, 2_000
"""The validation errors that a problem lists, and its characters: a client chooses the keys in them."""


class ProblemDetails(ResponseBody, component="Problem"):
    """Problem details, RFC 9457; `session` is there where one can be resumed."""

    type: str
    title: str
    status: int
    detail: str
    session: str | int | None = None

    @classmethod
    def of(cls, status: int, title: str, detail: str) -> ProblemDetails:
        return cls(type=f"urn:agentsession:{title}", title=title, status=status, detail=detail)


UNAUTHORIZED = ProblemDetails.of(401, "Unauthorized", "the request does not say whose sessions these are")
BODY_TOO_LARGE = ProblemDetails.of(413, "BodyTooLarge", "the body is larger than the server accepts")
NO_JSON_TYPE = ProblemDetails.of(415, "UnsupportedMediaType", "the Content-Type is not application/json")


class Refused(Exception):
    """A request that is refused before an action runs."""

    def __init__(self, problem: ProblemDetails) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def invalid(detail: str) -> ProblemDetails:
    return ProblemDetails.of(422, "InputInvalid", detail)


def mismatch(errors: Iterable[Any]) -> str:
    """Return what pydantic's errors say, without the values of the client."""
    texts = [f"{'.'.join(map(str, each['loc'])) or 'value'}: {_message(each)}" for each in errors]
    more = [f"and {len(texts) - MAX_ERRORS} more"] if len(texts) > MAX_ERRORS else []
    return "; ".join([*texts[:MAX_ERRORS], *more])[:MAX_DETAIL]


def problem_of(error: Exception) -> ProblemDetails | None:
    """Return the problem that a client sees, or None for an error that only the application can correct."""
    if isinstance(error, Refused):
        return error.problem
    if not isinstance(error, AgentSessionError) or _is_of_application(error):
        return None
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), None)
    if status is None:
        return None
    name, record = type(error).__name__, getattr(error, "session", None)
    detail = client_message(name) if status > 500 else error.found
    problem = ProblemDetails.of(status, name, detail)
    return problem if record is None else problem.model_copy(update={"session": json_id(record._pk)})


def problem_response(error: Exception) -> HttpResponse:
    """Return the response to an error, or raise the error if only the application can correct it."""
    problem = problem_of(error)
    if problem is None:
        raise error
    ends_soon = isinstance(error, SessionBusy) and error.status != AWAITING_APPROVAL
    return refusal(problem, {"Retry-After": RETRY_AFTER} if ends_soon else {})


def refusal(problem: ProblemDetails, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return the response with this problem."""
    return problem.response(problem.status, headers, MEDIA_TYPE)


def last_event(error: AgentSessionError) -> str:
    """Return the last event of a failed stream, or raise the error if only the application can correct it."""
    if problem_of(error) is None:
        raise error
    return StreamFailed.of(error).sse()


def json_id(key: Any) -> str | int:
    """Return a primary key in the form that it has in the events."""
    return msgspec.to_builtins(key, enc_hook=str)  # type: ignore[no-any-return]


def _message(error: Any) -> str:
    """Return what is wrong. Pydantic's own text repeats an unknown tag, which is a value of the client."""
    if error["type"] == "union_tag_invalid":
        return "the tag is none of the expected ones"
    return str(error["msg"])


def _is_of_application(error: Any) -> bool:
    return isinstance(error, InputInvalid) and error.where.rpartition(" ")[2] not in CLIENT_VALUES
