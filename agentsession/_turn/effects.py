"""What a turn asks the outside to do, as values. A driver performs them and sends the results back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias

import msgspec

from agentsession._json_values import JsonMap
from agentsession._tools.definition import Tool
from agentsession._tools.tool_context import Halt
from agentsession._turn.model_io import NOTHING, Delta, Prompt
from agentsession._turn_state import CallOutcome, Turn
from agentsession.context import Context, Message, Result
from agentsession.events import Event

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

    view: Prompt
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


def changed(context: Context, change: Change) -> Context:
    """The context as it is stored after a write."""
    messages = list(context.messages)
    if change.drop is not None:
        messages.pop()
    for id_, values in change.metadata.items():
        position = context.position(id_)
        messages[position] = msgspec.structs.replace(messages[position], metadata=values)
    count = context.count - (change.drop is not None) + len(change.append)
    return msgspec.structs.replace(context, messages=(*messages, *change.append), count=count)


class Interrupted(BaseException):
    """Thrown into the machine where it would ask, act or wait: the caller has left (Ctrl-C, a cancelled task,
    a closed stream), for which it is named. `received` is what had come of the reply, `ran` are the calls
    that had ended."""

    def __init__(self, why: str, received: Delta = NOTHING, ran: tuple[ToolResult, ...] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.received = received
        self.ran = ran

    @classmethod
    def by(
        cls, error: BaseException, received: Delta = NOTHING, ran: tuple[ToolResult, ...] = ()
    ) -> Interrupted:
        is_closed = isinstance(error, GeneratorExit)
        return cls("StreamClosed" if is_closed else type(error).__name__, received, ran)


class ProviderCallFailed(Exception):
    """Thrown into the machine while it asks: the provider failed, with the error that is the cause, after
    `received` had come."""

    def __init__(self, received: Delta = NOTHING) -> None:
        super().__init__()
        self.received = received


class ClaimLost(Exception):
    """Thrown into the machine while it asks: another has ended the claim."""


class WriteUnconfirmed(Exception):
    """Thrown into the machine at a write: the database did not say whether it was done. Its error is the
    cause."""
