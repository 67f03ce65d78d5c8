"""The events of a stream: frozen values, each with a JSON form and an SSE form.

>>> TextDelta("Hel").sse()
'event: text_delta\\ndata: {"type":"text_delta","text":"Hel"}\\n\\n'
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from agentsession._json_values import Json, JsonMap, compact
from agentsession.context import Result
from agentsession.errors import AgentSessionError, OutputInvalid, StorageFailed, TurnFailed


class Event(msgspec.Struct, frozen=True):
    """Something that happened in a turn. `event.name` is its type in JSON and in SSE: `text_delta`, …"""

    @property
    def name(self) -> str:
        """Return the type of the event in JSON and in SSE, such as `text_delta`."""
        return event_name(type(self))

    def json(self) -> JsonMap:
        """Return the event as a JSON object: `type`, and its attributes. A session is its id."""
        values = {name: _as_json(getattr(self, name)) for name in self.__struct_fields__}
        return {"type": self.name, **values}

    def sse(self) -> str:
        """Return the event in the form of https://html.spec.whatwg.org/multipage/server-sent-events.html."""
        return f"event: {self.name}\ndata: {compact(self.json())}\n\n"


def event_name(kind: type[Event]) -> str:
    """Return the name of a type of event: `text_delta` for `TextDelta`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


class TurnStarted(Event, frozen=True):
    """The user's message is stored, and the model is called next.

    `turn` is the turn's id. `session` is the record, or None for `stream`, which stores nothing.
    """

    turn: str
    session: Any = None


class TextDelta(Event, frozen=True):
    """The next piece of the reply's text."""

    text: str


class ThinkingDelta(Event, frozen=True):
    """The next piece of the model's visible thinking."""

    text: str


class PartialOutput(Event, frozen=True):
    """The structured output so far: a plain JSON value, not yet validated.

    A text may be cut off anywhere. A number or a key appears when it is complete.
    """

    value: Json


class OutputRetry(Event, frozen=True):
    """The reply does not fit the output schema, for the reason `error`.

    The model is called again. Discard the deltas and partial outputs of this reply.
    """

    error: str


class ToolStarted(Event, frozen=True):
    """A tool starts. `call` is the stable key of the call."""

    call: str
    tool: str
    arguments: JsonMap


class ToolProgress(Event, frozen=True):
    """A report of a running tool: any JSON value. It is not stored."""

    call: str
    tool: str
    progress: Json


class ToolFinished(Event, frozen=True):
    """The result of a call is stored.

    `outcome` is `completed`, `failed`, `timed_out`, `rejected`, `unknown` or `repeated`. `error` says why it
    is not `completed`, or is empty.
    """

    call: str
    tool: str
    error: str = ""
    outcome: str = "completed"


class ApprovalNeeded(Event, frozen=True):
    """A call waits for an approval.

    The stream ends after the last of these events, and the turn is stored as `awaiting_approval`.
    """

    call: str
    tool: str
    arguments: JsonMap


class TurnFinished(Event, frozen=True):
    """The turn is stored as completed.

    It is the only event if the idempotency key belongs to a completed turn, whose stored result is returned.
    """

    turn: str
    session: Any
    result: Result[Any]


class StreamFailed(Event, frozen=True):
    """The last event of a stream's `sse()` where iterating the stream would raise an error.

    `error` is the error's type. `message` is a text for the client, without text of the provider or the
    database.
    """

    error: str
    message: str

    @classmethod
    def of(cls, error: AgentSessionError) -> StreamFailed:
        """Return the event for an error, without text of the provider or the database."""
        is_ours = not isinstance(error, (TurnFailed, StorageFailed))
        return cls(type(error).__name__, error.found if is_ours else client_message(type(error).__name__))


def client_message(error: str) -> str:
    """Return a text for clients about an error of this type."""
    return {
        "ProviderFailed": "the model could not answer",
        "OutputInvalid": "the model's answer does not have the form that was asked for",
        "ToolFailed": "a tool failed",
        "HookFailed": "a function of the application failed",
        "MaxIterations": "the model asked for tools too often",
        "BudgetExceeded": "the turn took more tokens than it may",
        "StorageFailed": "how the turn ended could not be stored",
    }.get(error, "the turn did not complete")


def _as_json(value: Any) -> Json:
    if isinstance(value, Result):
        return _result(value)
    if hasattr(value, "_pk"):
        value = value._pk
    return msgspec.to_builtins(value, enc_hook=str)  # type: ignore[no-any-return]


def _result(result: Result[Any]) -> JsonMap:
    """Return the result as JSON. `output` is null if the value does not fit the current schema."""
    try:
        output = result.schema.dump(result.output, by_alias=True)
    except OutputInvalid:
        output = None
    names = ("text", "thinking", "usage", "cost", "model", "finish_reason", "duration")
    return {"output": output} | {name: msgspec.to_builtins(getattr(result, name)) for name in names}
