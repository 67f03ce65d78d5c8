"""What a turn asks the outside to do, as values. A driver performs them and sends the results back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from agentsession.context import Context, Message, Result, Turn, Usage
from agentsession.events import Event
from agentsession.json_values import JsonMap


class Shown(msgspec.Struct, frozen=True):
    """One message as the model is shown it."""

    role: str
    content: str


View: TypeAlias = tuple[Shown, ...]

Seen: TypeAlias = int | str | None


class Loaded(msgspec.Struct, frozen=True):
    """A session as one read found it, its size in bytes, and the database's clock in seconds since 1970.

    `seen` is what a claim is guarded by: the revision, or the text of a map that has none. `stored` answers
    whether a change that was asked about is in it. `turns` are all that were ever begun, those before the
    messages that were read included.
    """

    context: Context
    now: float
    size: int = 0
    turns: int = 0
    seen: Seen = None
    stored: bool = False


class Ready(msgspec.Struct, frozen=True):
    """The provider is ready: the host's clock then, in seconds since 1970, and the seconds that it took."""

    now: float
    took: float


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a reply as it comes, or all pieces that came so far."""

    text: str = ""
    thinking: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.thinking)


NOTHING = Delta()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider answered. `cost` is in US dollars, None where unknown; `raw` is its own response."""

    text: str
    thinking: str = ""
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    model: str = ""
    finish_reason: str = ""
    duration: float = 0.0
    raw: Any = None


class Change(msgspec.Struct, frozen=True):
    """One guarded write: the turn from now on, messages to append, metadata of stored messages by their ids.

    `drop` is the id of the message that goes: the partial reply of a turn that is run again, the last one.
    """

    turn: Turn
    append: tuple[Message, ...] = ()
    metadata: Mapping[str, JsonMap] = {}
    instruction_args: JsonMap | None = None
    drop: str | None = None


class Prepare(msgspec.Struct, frozen=True):
    """Make the provider of this client ready (None: the declared one) → `Ready`."""

    client: str | None


class Load(msgspec.Struct, frozen=True):
    """Read the session → `Loaded`. `change`: also find out whether that write, whose answer was lost, is
    stored."""

    change: Change | None = None


class Wait(msgspec.Struct, frozen=True):
    """Wait for a turn that has been open for `age` seconds, at most `left` seconds → seconds waited."""

    age: float
    left: float


class Insert(msgspec.Struct, frozen=True):
    """Store a new session → is it new? (False: a row of the same idempotency key is there.)"""

    change: Change


class Claim(msgspec.Struct, frozen=True):
    """Write as an outsider, if what is stored is still what was seen (None: nothing) → won?"""

    seen: Seen
    change: Change


class Hook(msgspec.Struct, frozen=True):
    """Call a function of the user's with a value → what it gives, awaited where it has to be."""

    function: Callable[[Any], Any]
    value: Any


class Emit(msgspec.Struct, frozen=True):
    """Tell whoever follows the turn what has happened → None."""

    event: Event


class Ask(msgspec.Struct, frozen=True):
    """Ask the model → `Reply`. What comes before it is the driver's: it tells of it, and keeps it."""

    view: View
    client: str | None


class Save(msgspec.Struct, frozen=True):
    """Write as the holder of the claim and extend its lease → is the claim still held?"""

    change: Change
    claim: str
    lease: float


class Finish(msgspec.Struct, frozen=True):
    """Write as the holder for the last time: the claim ends → was it still held?"""

    change: Change
    claim: str


Write: TypeAlias = Insert | Claim | Save | Finish
Effect: TypeAlias = Prepare | Load | Wait | Hook | Emit | Ask | Write


class Stopped(BaseException):
    """Thrown into the machine where it would ask or wait: the caller has left (Ctrl-C, a cancelled task, a
    closed stream), for which it is named. `received` is what had come of the reply."""

    def __init__(self, why: str, received: Delta = NOTHING) -> None:
        super().__init__(why)
        self.why = why
        self.received = received

    @classmethod
    def by(cls, error: BaseException, received: Delta = NOTHING) -> Stopped:
        is_closed = isinstance(error, GeneratorExit)
        return cls("StreamClosed" if is_closed else type(error).__name__, received)


class Unanswered(Exception):
    """Thrown into the machine while it asks: the provider failed, with the error that is the cause, after
    `received` had come."""

    def __init__(self, received: Delta = NOTHING) -> None:
        super().__init__()
        self.received = received


class ClaimGone(Exception):
    """Thrown into the machine while it asks: another has ended the claim."""


class Unacknowledged(Exception):
    """Thrown into the machine at a write: the database did not say whether it was done. Its error is the
    cause."""


class Outcome(msgspec.Struct, frozen=True):
    """How a turn ended: its state, and the result if it completed."""

    turn: Turn
    result: Result[Any] | None = None


Machine: TypeAlias = Generator[Effect, Any, Outcome]
