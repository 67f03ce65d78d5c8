"""What a turn asks the outside to do, as values. A driver performs them and sends the results back."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from agentsession.context import Context, Message, Result, Turn, Usage
from agentsession.json_values import JsonMap


@dataclass(frozen=True, slots=True)
class Shown:
    """One message as the model is shown it."""

    role: str
    content: str


View: TypeAlias = tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A session as one read found it, and the database's clock in seconds since 1970."""

    context: Context
    now: float


@dataclass(frozen=True, slots=True)
class Ready:
    """The provider is ready: the host's clock then, in seconds since 1970, and the seconds that it took."""

    now: float
    took: float


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


@dataclass(frozen=True, slots=True)
class Change:
    """One guarded write: the turn from now on, messages to append, metadata of stored messages."""

    turn: Turn
    append: tuple[Message, ...] = ()
    metadata: Mapping[int, JsonMap] = field(default_factory=dict)
    instruction_args: JsonMap | None = None


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the provider of this client ready (None: the declared one) → `Ready`."""

    client: str | None


@dataclass(frozen=True, slots=True)
class Load:
    """Read the session → `Loaded`."""


@dataclass(frozen=True, slots=True)
class Insert:
    """Store a new session → None."""

    change: Change


@dataclass(frozen=True, slots=True)
class Claim:
    """Write as an outsider, if the revision is still the one seen (None: there was none) → won?"""

    seen: int | None
    change: Change


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the model → `Reply`."""

    view: View
    client: str | None


@dataclass(frozen=True, slots=True)
class Save:
    """Write as the holder of the claim and extend its lease → None, or `LeaseLost` thrown in."""

    change: Change
    claim: str
    lease: float


@dataclass(frozen=True, slots=True)
class Finish:
    """Write as the holder for the last time: the claim ends → None, or `LeaseLost` thrown in."""

    change: Change
    claim: str


Effect: TypeAlias = Prepare | Load | Insert | Claim | Ask | Save | Finish


class Stopped(BaseException):
    """Thrown into the machine while it asks: the caller went away (Ctrl-C, exit)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended: its state, and the result if it completed."""

    turn: Turn
    result: Result[Any] | None = None


Machine: TypeAlias = Generator[Effect, Any, Outcome]
