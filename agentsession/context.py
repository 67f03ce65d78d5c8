"""The frozen values that a user sees: the conversation, its messages and turns, and a turn's result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import msgspec

from agentsession.errors import OutputInvalid
from agentsession.json_values import JsonMap, compact
from agentsession.schema import OutputSchema, Schema, SchemaMismatch

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Out = TypeVar("Out", default=Any)
else:
    from typing import TypeVar

    Out = TypeVar("Out")

VERSION = 1


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens that a turn was billed for; what the provider does not tell is 0."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(mine + theirs for mine, theirs in zip(self._values(), other._values(), strict=True)))

    def _values(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__)


class Message(msgspec.Struct, frozen=True):
    """One entry of the conversation.

    `content` is text, a list of parts (`{"type": "text", "text": …}`, `{"type": "thinking", …}`), or a
    dict for structured input. `turn` is the turn's id, `id` is `turn:position`, where positions count the
    messages of the conversation from 0. The user message's
    `metadata` tells of its turn (`input_hash`, and `status` and `error` once it has failed or was
    interrupted), the reply's `metadata` holds `model`, `usage`, `cost`, `finish_reason`, `duration`.
    """

    id: str
    turn: str
    role: str
    content: str | list[JsonMap] | JsonMap
    metadata: JsonMap = {}

    @property
    def text(self) -> str:
        """The words of the message: its text, its text parts, or a structured input's JSON."""
        if isinstance(self.content, str):
            return self.content
        if isinstance(self.content, list):
            return _joined(self.content, "text")
        return compact(self.content)

    @property
    def thinking(self) -> str:
        return _joined(self.content, "thinking") if isinstance(self.content, list) else ""

    def parse(self, schema: type[Out]) -> Out:
        """The content as a typed value of `schema`: a stored input, or a structured reply.

        Raises `OutputInvalid` where it does not fit (an old message under a new schema, say); the
        message stays readable as `content` and `text`.
        """
        given = self.content if isinstance(self.content, dict) else self.text
        try:
            value: Out = Schema(schema).load(given)
        except SchemaMismatch as mismatch:
            try:
                value = OutputSchema(schema).parse(self.text)
            except SchemaMismatch:
                raise output_invalid(self.text, schema, mismatch) from mismatch
        return value


class ReplyFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a reply's `metadata` tells about the call, its repeated attempts included."""

    model: str = ""
    usage: Usage = Usage()
    cost: float | None = None
    finish_reason: str = ""
    duration: float = 0.0


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reply that did not fit, as the user message's metadata keeps it in `attempts`."""

    text: str
    error: str
    usage: Usage = Usage()
    cost: float | None = None
    duration: float = 0.0


Attempts: TypeAlias = tuple[Attempt, ...]


def _joined(parts: list[JsonMap], kind: str) -> str:
    texts = (part.get("text") for part in parts if part.get("type") == kind)
    return "".join(text for text in texts if isinstance(text, str))


class TurnError(msgspec.Struct, frozen=True):
    """Why a turn failed: the type's name and the message of the error, without keys."""

    type: str
    message: str


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One user input up to its final reply.

    `status` is one of `pending`, `running`, `completed`, `failed`, `interrupted`. `since` and `until`
    are seconds since 1970 on the database's clock (the host's, for the first turn of a session): when the
    claim was taken, and when its lease of `lease` seconds ends. `claim` is there while the turn is held.
    `partial` is the text received so far of a running reply.
    """

    id: str
    status: str
    error: TurnError | None = None
    usage: Usage = Usage()
    partial: str = ""
    client: str | None = None
    claim: str | None = None
    since: float | None = None
    until: float | None = None
    lease: float | None = None

    @property
    def is_open(self) -> bool:
        return self.status not in ("completed", "failed", "interrupted")

    def is_held(self, now: float) -> bool:
        """Does a holder live? The lease decides, not the status: a killed holder leaves `running`.

        A lease with much more than its length left says that a clock was wrong, and counts for nothing: a
        takeover is the lesser harm than a session that is busy for hours.
        """
        if self.status != "running" or self.until is None:
            return False
        return now < self.until <= now + 2 * (math.inf if self.lease is None else self.lease)

    def ended(self, status: str, **facts: Any) -> Turn:
        """The turn once its claim has ended."""
        return msgspec.structs.replace(
            self, status=status, claim=None, since=None, until=None, lease=None, **facts
        )


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
    """

    text: str
    thinking: str = ""
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    model: str = ""
    finish_reason: str = ""
    duration: float = 0.0
    raw: Any = field(default=None, repr=False, compare=False)
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
msgspec.convert((), Attempts)
