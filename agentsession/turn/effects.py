"""What a turn asks the outside to do, as values. A driver performs them and sends the results back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias

import msgspec

from agentsession.context import Context, Message, Result
from agentsession.events import Event
from agentsession.json_values import JsonMap
from agentsession.tools.definition import Tool
from agentsession.tools.halt import Halt
from agentsession.turn.exchange import View
from agentsession.turn_state import CallOutcome, Turn

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


class HookContext(msgspec.Struct, frozen=True):
    """What each hook is told beside its value: the turn's id, the client that is asked, how many times this
    run of the turn has asked it, and whose session it is (None for a call, which has none)."""

    turn: str
    client: str
    iteration: int = 0
    session_id: Any = None
    actor: Any = None


class Hook(msgspec.Struct, frozen=True):
    """Call a function of the user's with a value → what it gives, awaited where it has to be. With a
    `context`, that comes first, once the driver has said in it which session it is."""

    function: Callable[..., Any]
    value: Any
    context: HookContext | None = None


class Emit(msgspec.Struct, frozen=True):
    """Tell whoever follows the turn what has happened → None."""

    event: Event


class Ask(msgspec.Struct, frozen=True):
    """Ask the model → `Reply`. What comes before it is the driver's: it tells of it, and keeps it."""

    view: View
    client: str | None


class Run(msgspec.Struct, frozen=True):
    """A call that is to be run: its key, its tool, its arguments as the JSON object that was given, and as
    the tool takes them."""

    call: str
    tool: Tool
    given: JsonMap
    arguments: dict[str, Any]


class ToolResult(msgspec.Struct, frozen=True):
    """What became of a call: `text` is its whole result, or says why there is none, `shown` what the model is
    shown of it, where that is less. `duration` is in seconds, `error` what the tool has raised, and `halt` is
    there where it ends the turn. `has_run`: the tool has run, although the outcome is `failed`: only its
    result could not be used.
    """

    call: str
    tool: str
    outcome: CallOutcome
    text: str
    shown: str | None = None
    duration: float = 0.0
    halt: Halt | None = None
    error: BaseException | None = None
    has_run: bool = False

    def showing(self, text: str) -> ToolResult:
        """The same, of which the model is shown this."""
        return msgspec.structs.replace(self, shown=text)


class RunTools(msgspec.Struct, frozen=True):
    """Begin these calls of a turn → those that have ended, one at least, as `ToolResult`. The others run on:
    without calls it waits for them."""

    turn: str
    calls: tuple[Run, ...] = ()


class Save(msgspec.Struct, frozen=True):
    """Write as the holder of the claim and extend its lease → is the claim still held?"""

    change: Change
    claim: str
    lease: float


class Finish(msgspec.Struct, frozen=True):
    """Write as the holder for the last time: the claim ends → was it still held? `wait`: in how many seconds
    the time for an approval is over."""

    change: Change
    claim: str
    wait: float | None = None


Write: TypeAlias = Insert | Claim | Save | Finish
Effect: TypeAlias = Prepare | Load | Wait | Hook | Emit | Ask | RunTools | Write


class Outcome(msgspec.Struct, frozen=True):
    """How a turn ended: its state, and the result if it completed."""

    turn: Turn
    result: Result[Any] | None = None


Machine: TypeAlias = Generator[Effect, Any, Outcome]
