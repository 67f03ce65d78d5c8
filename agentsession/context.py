"""The frozen values of a conversation: its messages, and the result of a turn."""

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
"""The attribute in which a message keeps the schema of its agent. It is not a field: not stored, not
compared."""


class Message(msgspec.Struct, frozen=True, dict=True):
    """One message of a conversation.

    A reply that asks for tools has parts `{"type": "tool_call", "call": …, "tool": …, "arguments": …}`, and
    its metadata is that of one model call. A part `opaque` is returned to the provider that sent it. A call
    that repeats an earlier one, and so does not run, has `"repeated": true`. Each result is a message of
    the role `tool` with one part `{"type": "tool_result", "call": …, "tool": …, "content": …}`, and with
    `shown` if the model receives less of it.

    Attributes:
        id: `turn:position`; positions count the messages of the conversation from 0.
        turn: The id of the turn.
        role: `system`, `user`, `assistant` or `tool`.
        content: A text, a list of parts (`{"type": "text", "text": …}`, `{"type": "thinking", …}`), or a
            dict for structured input.
        metadata: Of a user's message, the facts of its turn: `input_hash`, and `status` and `error` once the
            turn failed or was interrupted. Of a reply: `model`, `usage`, `cost`, `finish_reason` and
            `duration` of the turn. Of a tool's result: `outcome`, `duration`, `approval` if one was needed,
            and `has_run` if the tool ran and only its result failed.
    """

    id: str
    turn: str
    role: str
    content: str | list[JsonMap] | JsonMap
    metadata: JsonMap = {}

    @property
    def text(self) -> str:
        """The text of the message: its content, its text parts, or a tool's result.

        Of a structured input: what the model receives. That is the text field if all other fields have their
        defaults, and JSON otherwise.
        """
        if isinstance(self.content, str):
            return self.content
        if isinstance(self.content, list):
            return _joined(self.content, "text") or _joined(self.content, "tool_result", "content")
        schema: InputSchema | None = vars(self).get(SCHEMA)
        return compact(self.content) if schema is None else schema.show(self.content)

    @property
    def thinking(self) -> str:
        """The thinking of a reply, as far as its provider reports it."""
        return _joined(self.content, "thinking") if isinstance(self.content, list) else ""

    def parts(self, kind: str) -> list[JsonMap]:
        """Return the parts of a type.

        Args:
            kind: `text`, `thinking`, `tool_call`, `tool_result` or `opaque`.

        Example:
            ```python
            for message in session.get_context().messages:
                print([part["tool"] for part in message.parts("tool_call")])
            ```
        """
        if not isinstance(self.content, list):
            return []
        return [part for part in self.content if part.get("type") == kind]

    def parse(self, schema: type[Out]) -> Out:
        """Return the content as a value of a schema: a stored input, or a structured reply.

        Args:
            schema: A type that pydantic can validate.

        Raises:
            OutputInvalid: The content does not fit, such as an old message under a new schema.

        Example:
            ```python
            reply = session.get_context().messages[-1]
            print(reply.parse(Answer))
            ```
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
    """Return the messages, after giving them the schema by which `text` renders a structured input."""
    if schema.text_field is not None:
        for message in messages:
            if message.role == "user" and isinstance(message.content, dict):
                vars(message)[SCHEMA] = schema
    return messages


class ReplyFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The metadata of a reply: the facts of its turn, repeated attempts included."""

    model: str = ""
    usage: Usage = Usage()
    cost: float | None = None
    finish_reason: str = ""
    duration: float = 0.0

    @classmethod
    def of(cls, message: Message) -> ReplyFacts:
        """Return the facts of a message; the defaults if its metadata has another form."""
        try:
            return msgspec.convert(message.metadata, cls)
        except msgspec.ValidationError:
            return cls()


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reply that did not fit, as the metadata of the user's message stores it in `attempts`."""

    text: str
    error: str
    usage: Usage = Usage()
    cost: float | None = None
    duration: float = 0.0


def _joined(parts: list[JsonMap], kind: str, key: str = "text") -> str:
    texts = (part.get(key) for part in parts if part.get("type") == kind)
    return "".join(text for text in texts if isinstance(text, str))


class Context(msgspec.Struct, frozen=True):
    """A conversation, or a page of it.

    `get_context(id, last=50, before=page.first)` is the page before `page`.

    Attributes:
        v: The version of the stored format.
        revision: The number of writes of the session.
        layout: `"document"` or `"rows"`: where the messages are stored.
        messages: The messages, the oldest first.
        metadata: Further keys of the stored value.
        instruction_args: The stored values of the instruction's variables.
        turn: The latest turn. None before the first one.
        first: The position of the first message in the conversation, from 0.
        count: The number of messages of the whole conversation.
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
        """Return the user's message that began a turn, or None.

        Args:
            turn_id: The id of the turn.
        """
        for message in reversed(self.messages):
            if message.turn == turn_id and message.role == "user":
                return message
        return None

    def position(self, id_: str) -> int:
        """Return the index of a message in `messages`.

        Args:
            id_: The id of the message.

        Raises:
            ValueError: No message has this id.
        """
        for position in range(len(self.messages) - 1, -1, -1):
            if self.messages[position].id == id_:
                return position
        raise ValueError(f"no message has the id {id_!r}")


@dataclass(frozen=True)
class Result(Generic[Out]):
    """The result of a completed turn.

    Attributes:
        text: The reply as it was received.
        thinking: The thinking of the reply, as far as the provider reports it.
        usage: The tokens of the turn.
        cost: US dollars. None if the price of the model is unknown.
        model: The model that replied, as its provider names it.
        finish_reason: The reason of the provider, such as `stop` or `length`.
        duration: Seconds of all model calls, retries included.
        raw: The provider's own response. Present only right after the turn.
        context: The conversation of a `call`, its instruction and the reply included, for `build_context`.
            None for a turn of a session, whose conversation `get_context` reads.
        schema: The output schema.
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
        """The value of the output schema; without a schema, the text.

        Raises:
            OutputInvalid: A stored reply does not fit the schema as it is now.

        Example:
            ```python
            print(ChatAgent.call("Hello").output)
            ```
        """
        try:
            value: Out = self.schema.parse(self.text)
        except SchemaMismatch as error:
            raise output_invalid(self.text, self.schema.type, error) from error
        return value


def output_invalid(text: str, schema: Any, mismatch: SchemaMismatch) -> OutputInvalid:
    """Return the error for a text that does not fit the output schema."""
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
