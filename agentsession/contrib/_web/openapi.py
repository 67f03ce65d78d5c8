"""The texts and schemas of OpenAPI that no response model contains."""

from __future__ import annotations

from typing import Any

from agentsession.contrib._web.problems import MEDIA_TYPE, ProblemDetails

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
"""One of the server-sent events, as OpenAPI 3.2 describes the items of a stream."""

EVENT_STREAM = {
    "description": "The events of the turn",
    "content": {"text/event-stream": {"itemSchema": EVENT}},
}

WAITING = "The turn waits for an approval"

IDEMPOTENCY_KEY = (
    "Identifies this message. A request that repeats it with the same key returns the stored result."
)

BEFORE = "`next` of the previous page"


def problem_responses(statuses: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of these statuses."""
    content = {MEDIA_TYPE: {"schema": ProblemDetails.model_json_schema()}}
    return {status: {"description": PROBLEMS[status], "content": content} for status in statuses}
