"""The frozen values that a user sees: the conversation, its messages and turns, and a turn's result."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from agentsession._json_values import JsonMap, compact
from agentsession._schema import InputSchema, OutputSchema, Schema, SchemaMismatch
from agentsession._turn_state import Turn, Usage
from agentsession.errors import OutputInvalid

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Out = TypeVar("Out", default=Any)
else:
    from typing import TypeVar

    Out = TypeVar("Out")

VERSION = 1

SCHEMA = "input_schema"
"""Where a message that was read keeps the schema of its agent; not a field, so not stored or compared."""


class Message(msgspec.Struct, frozen=True, dict=True):
    """One entry of the conversation.

    `content` is text, a list of parts (`{"type": "text", "text": …}`, `{"type": "thinking", …}`), or a
    dict for structured input. `turn` is the turn's id, `id` is `turn:position`, where positions count the
    messages of the conversation from 0. The user message's
    `metadata` tells of its turn (`input_hash`, and `status` and `error` once it has failed or was
    interrupted), the reply's `metadata` holds `model`, `usage`, `cost`, `finish_reason`, `duration`, all of
    the turn.

    A reply that asks for tools has parts `{"type": "tool_call", "call": …, "tool": …, "arguments": …}`, and
    its metadata is that of this one question; a part `opaque` is what its provider wants to see again. A call
    that repeats an earlier one, and so does not run, also has `"repeated": true`. Each
    result is a message of the role `tool` with one part `{"type": "tool_result", "call": …, "tool": …,
    "content": …}`, and `shown` where the model is shown less; its metadata holds `outcome`, `duration`,
    `approval` where somebody was asked, and `has_run` where a tool has run and only its result failed.
    """

    id: str
    turn: str
    role: str
    content: str | list[JsonMap] | JsonMap
    metadata: JsonMap = {}

    @property
    def text(self) -> str:
        """The words of the message: its text, its text parts, a tool's result; of a structured input what the
        model is shown of it, which is the text where all other fields are at their defaults, else JSON."""
        if isinstance(self.content, str):
            return self.content
        if isinstance(self.content, list):
            return _joined(self.content, "text") or _joined(self.content, "tool_result", "content")
        schema: InputSchema | None = vars(self).get(SCHEMA)
        return compact(self.content) if schema is None else schema.show(self.content)

    @property
    def thinking(self) -> str:
        return _joined(self.content, "thinking") if isinstance(self.content, list) else ""

    def parts(self, kind: str) -> list[JsonMap]:
        """The parts of this type: `tool_call`, `tool_result`, …"""
        if not isinstance(self.content, list):
            return []
        return [part for part in self.content if part.get("type") == kind]

    def parse(self, schema: type[Out]) -> Out:
        """The content as a typed value of `schema`: a stored input, or a structured reply.

        Raises `OutputInvalid` where it does not fit (an old message under a new schema, say); the
        message stays readable as `content` and `text`.
        """
        is_map = isinstance(self.content, dict)
        text = compact(self.content) if is_map else self.text
        try:
            value: Out = Schema(schema).load(self.content if is_map else text)
        except SchemaMismatch as mismatch:
            try:
                value = OutputSchema(schema).parse(text)
            except SchemaMismatch:
                raise output_invalid(text, schema, mismatch) from mismatch
        return value


def with_schema(messages: tuple[Message, ...], schema: InputSchema) -> tuple[Message, ...]:
    """The messages; the text of structured inputs is from now on what this schema shows of them."""
    if schema.text_field is not None:
        for message in messages:
            if message.role == "user" and isinstance(message.content, dict):
                vars(message)[SCHEMA] = schema
    return messages


class ReplyFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a reply's `metadata` tells about the call, its repeated attempts included."""

    model: str = ""
    usage: Usage = Usage()
    cost: float | None = None
    finish_reason: str = ""
    duration: float = 0.0

    @classmethod
    def of(cls, message: Message) -> ReplyFacts:
        """What its metadata does not tell is unknown."""
        try:
            return msgspec.convert(message.metadata, cls)
        except msgspec.ValidationError:
            return cls()


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reply that did not fit, as the user message's metadata keeps it in `attempts`."""

    text: str
    error: str
    usage: Usage = Usage()
    cost: float | None = None
    duration: float = 0.0


def _joined(parts: list[JsonMap], kind: str, key: str = "text") -> str:
    texts = (part.get(key) for part in parts if part.get("type") == kind)
    return "".join(text for text in texts if isinstance(text, str))


class Context(msgspec.Struct, frozen=True):
    """The conversation, or a page of it. Has the attributes of the stored map.

    `count` is the number of messages of the whole conversation, `first` the position in it of the first one
    that is here: `get_context(id, last=50, before=page.first)` is the page before.
    """

    v: int = VERSION
    revision: int | None = None
    layout: str = "document"
    messages: tuple[Message, ...] = ()
    metadata: JsonMap = {}
    instruction_args: JsonMap = {}
    turn: Turn | None = None
    first: int = 0
    count: int = 0

    def opening(self, turn_id: str) -> Message | None:
        """The user message that began this turn."""
        for message in reversed(self.messages):
            if message.turn == turn_id and message.role == "user":
                return message
        return None

    def position(self, id_: str) -> int:
        """Where the message with this id stands among those that are here; `ValueError` if it does not."""
        for position in range(len(self.messages) - 1, -1, -1):
            if self.messages[position].id == id_:
                return position
        raise ValueError(f"no message has the id {id_!r}")


@dataclass(frozen=True)
class Result(Generic[Out]):
    """What a completed turn brought.

    `text` is the reply as it came, `output` the value of the output schema (the text itself, where
    there is none). `cost` is in US dollars, None where the price is not known; `duration` in seconds,
    retries included. `raw` is the provider's own response, there only right after the turn.

    `context` is the conversation of a `call`, with its instruction and the reply, for `build_context` to go
    on from. It is None for a turn of a session, whose conversation `get_context` reads.
    """

    text: str
    thinking: str = ""
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    model: str = ""
    finish_reason: str = ""
    duration: float = 0.0
    raw: Any = field(default=None, repr=False, compare=False)
    context: Context | None = field(default=None, repr=False, compare=False)
    schema: OutputSchema = field(default_factory=OutputSchema, repr=False, compare=False)

    @cached_property
    def output(self) -> Out:
        """The typed value, validated by today's schema; raises `OutputInvalid` where it no longer fits."""
        try:
            value: Out = self.schema.parse(self.text)
        except SchemaMismatch as error:
            raise output_invalid(self.text, self.schema.type, error) from error
        return value


def output_invalid(text: str, schema: Any, mismatch: SchemaMismatch) -> OutputInvalid:
    error = OutputInvalid(
        f"the reply does not fit {getattr(schema, '__name__', schema)}: {mismatch}",
        fix="read `.raw` for its text, or let the schema accept it",
    )
    error.raw = text
    return error


# msgspec 0.22 resolves a type at its first use, and two threads that do so at once crash the interpreter.
msgspec.convert({}, Context)
msgspec.convert({}, ReplyFacts)
msgspec.convert((), tuple[Attempt, ...])
