"""What a stream tells while a turn runs: frozen values, each with a JSON form and an SSE form.

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
    """One thing that happened. `event.name` is the type in its JSON and SSE forms: `text_delta`, …"""

    @property
    def name(self) -> str:
        return name_of(type(self))

    def json(self) -> JsonMap:
        """The event as a JSON object: `type`, and its attributes; a session is its id."""
        values = {name: _as_json(getattr(self, name)) for name in self.__struct_fields__}
        return {"type": self.name, **values}

    def sse(self) -> str:
        """The event in the form of https://html.spec.whatwg.org/multipage/server-sent-events.html."""
        return f"event: {self.name}\ndata: {compact(self.json())}\n\n"


def name_of(kind: type[Event]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


class TurnStarted(Event, frozen=True):
    """The user's words are stored, and the model is about to be asked. `session` is the record (None for
    `stream`, which stores nothing), `turn` the turn's id."""

    turn: str
    session: Any = None


class TextDelta(Event, frozen=True):
    """The next piece of the reply's text."""

    text: str


class ThinkingDelta(Event, frozen=True):
    """The next piece of what the model thinks aloud."""

    text: str


class PartialOutput(Event, frozen=True):
    """Structured output as far as it has come: a plain JSON value, not yet validated. A text may be cut off
    anywhere; a number or a key is there once it is whole."""

    value: Json


class OutputRetry(Event, frozen=True):
    """The reply does not fit the output schema, for the reason `error`: the model is asked again, and what
    was shown of this reply is void."""

    error: str


class ToolStarted(Event, frozen=True):
    """A tool runs. `call` is the stable key of the call."""

    call: str
    tool: str
    arguments: JsonMap


class ToolProgress(Event, frozen=True):
    """What a running tool reports: any JSON value. Nothing is stored of it."""

    call: str
    tool: str
    progress: Json


class ToolFinished(Event, frozen=True):
    """The result of a call is stored. `outcome` is `completed`, `failed`, `timed_out`, `rejected`,
    `unknown` or `repeated`; `error` says why it is not `completed`, or is empty."""

    call: str
    tool: str
    error: str = ""
    outcome: str = "completed"


class ApprovalNeeded(Event, frozen=True):
    """A call waits for somebody's approval. The stream ends after the last of them, and the turn is stored as
    `awaiting_approval`."""

    call: str
    tool: str
    arguments: JsonMap


class TurnFinished(Event, frozen=True):
    """The turn is stored as completed. Also the only event where an idempotency key brought a stored
    result."""

    turn: str
    session: Any
    result: Result[Any]


class StreamFailed(Event, frozen=True):
    """How `sse()` of a stream ends where iterating it would raise: the type of the error, and what a client
    may be told of it, which are no words of the provider's or the database's."""

    error: str
    message: str

    @classmethod
    def of(cls, error: AgentSessionError) -> StreamFailed:
        is_ours = not isinstance(error, (TurnFailed, StorageFailed))
        return cls(type(error).__name__, error.found if is_ours else told_of(type(error).__name__))


def told_of(error: str) -> str:
    """What a client may be told of a failure of this type."""
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
    """`output` is the value as JSON, null where it does not fit the schema of today."""
    try:
        output = result.schema.dump(result.output, by_alias=True)
    except OutputInvalid:
        output = None
    names = ("text", "thinking", "usage", "cost", "model", "finish_reason", "duration")
    return {"output": output} | {name: msgspec.to_builtins(getattr(result, name)) for name in names}
