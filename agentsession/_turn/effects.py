"""The effects that a turn yields, the values that it works with, and the errors that are thrown into it.

An effect describes one operation. A driver performs it and sends the result back into the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, ClassVar, TypeAlias

import msgspec

from agentsession._json_values import JsonMap
from agentsession._tools.definition import Tool
from agentsession._tools.tool_context import Halt
from agentsession._turn.model_io import NO_DELTA, Delta, Prompt
from agentsession._turn_state import CallOutcome, Turn
from agentsession.context import Context, Message, Result
from agentsession.events import Event

Seen: TypeAlias = int | str | None
"""The guard of a claim: the revision that was read, or the text of a map without one."""


class Loaded(msgspec.Struct, frozen=True):
    """A session as read: its context, its size in bytes, and the database's clock in seconds since 1970.

    `seen` is the guard of a claim. `stored` tells whether the change that `Load` named is stored. `turns`
    counts every turn of the session, including those before the messages that were read.
    """

    context: Context
    now: float
    size: int = 0
    turns: int = 0
    seen: Seen = None
    stored: bool = False


class Ready(msgspec.Struct, frozen=True):
    """The provider is ready: the host's clock in seconds since 1970, and the seconds that it took."""

    now: float
    took: float


class Change(msgspec.Struct, frozen=True):
    """The content of one guarded write: the new turn, messages to append, metadata of messages by their ids.

    `drop` is the id of the message to remove. It is always the last one: the partial reply of a turn that
    runs again.
    """

    turn: Turn
    append: tuple[Message, ...] = ()
    metadata: Mapping[str, JsonMap] = {}
    instruction_args: JsonMap | None = None
    drop: str | None = None


class HookContext(msgspec.Struct, frozen=True):
    """What a hook receives beside its value.

    It holds the turn's id, the id of the client, the number of model calls in this run of the turn, and the
    session's id and actor (both None for a `call`, which has no session).
    """

    turn: str
    client: str
    iteration: int = 0
    session_id: Any = None
    actor: Any = None


class Run(msgspec.Struct, frozen=True):
    """A tool call to run: its key, its tool, and its arguments as JSON values and as the tool takes them."""

    call: str
    tool: Tool
    plain_arguments: JsonMap
    arguments: dict[str, Any]


class ToolResult(msgspec.Struct, frozen=True):
    """The result of a tool call.

    `text` is the full result, or the reason why there is none. `text_for_model` is set where the model
    receives another text. `duration` is in seconds. `error` is the exception that the tool raised. `halt` is
    set where the result ends the turn. `has_run` is set where the outcome is `failed` although the tool has
    run, because its result could not be used.
    """

    call: str
    tool: str
    outcome: CallOutcome
    text: str
    text_for_model: str | None = None
    duration: float = 0.0
    halt: Halt | None = None
    error: BaseException | None = None
    has_run: bool = False

    def showing(self, text: str) -> ToolResult:
        """Return a copy whose text for the model is `text`."""
        return msgspec.structs.replace(self, text_for_model=text)


class Outcome(msgspec.Struct, frozen=True):
    """How a turn ended: its state, and the result if it completed."""

    turn: Turn
    result: Result[Any] | None = None


class BaseEffect(msgspec.Struct, frozen=True):
    """The properties of an effect's class."""

    uses_store: ClassVar[bool] = False
    """The store performs it. It is performed even after the caller has left, to store the end of the turn."""

    is_interruptible: ClassVar[bool] = False
    """An interruption while it is performed (Ctrl-C, a cancelled task) becomes `Interrupted` in the machine,
    which then stores the end of the turn."""

    is_crash_point: ClassVar[bool] = False
    """`testing.every_crash` stops the process after it. The others store nothing and ask nobody."""


class StoreEffect(BaseEffect, frozen=True):
    """An effect that the store performs."""

    uses_store = True
    is_crash_point = True


class Prepare(BaseEffect, frozen=True):
    """Make the provider of this client ready (None: the declared client). The result is `Ready`.

    It is an effect of its own because the client of a resumed turn is known only after `Load`. The time that
    it takes is added to the lease.
    """

    client: str | None


class Load(StoreEffect, frozen=True):
    """Read the session. The result is `Loaded`.

    With a `change`, it also finds out whether that unconfirmed write is stored.
    """

    change: Change | None = None


class Wait(BaseEffect, frozen=True):
    """Wait for a turn that began `age` seconds ago, for at most `remaining` seconds.

    The result is the number of seconds waited.
    """

    age: float
    remaining: float


class Insert(StoreEffect, frozen=True):
    """Store a new session. The result is False if a row with the same idempotency key exists."""

    change: Change


class Claim(StoreEffect, frozen=True):
    """Write as a non-holder, if the stored session is still the one that was read (`seen`).

    The result tells whether the write was done.
    """

    seen: Seen
    change: Change


class Hook(BaseEffect, frozen=True):
    """Call a user function with a value. The result is what it returns, awaited if necessary.

    A `context` is passed as the first argument, after the driver has set its session.
    """

    is_interruptible = True

    function: Callable[..., Any]
    value: Any
    context: HookContext | None = None


class Emit(BaseEffect, frozen=True):
    """Pass an event to the reader of the turn's stream. The result is None."""

    event: Event


class CallModel(BaseEffect, frozen=True):
    """Call the model with a prompt. The result is its `Reply`.

    Deltas are not effects: the driver passes them on, and keeps the partial reply.
    """

    is_interruptible = True
    is_crash_point = True

    prompt: Prompt
    client: str | None


class RunTools(BaseEffect, frozen=True):
    """Start these calls. The result is the `ToolResult` of each call that has ended, at least one.

    The other calls go on. `RunTools` without calls waits for them.
    """

    is_interruptible = True
    is_crash_point = True

    turn: str
    calls: tuple[Run, ...] = ()


class Save(StoreEffect, frozen=True):
    """Write as the holder of the claim and extend the lease. The result is False if the claim is lost."""

    change: Change
    claim: str
    lease: float


class Finish(StoreEffect, frozen=True):
    """Write as the holder and end the claim. The result is False if the claim is lost. The turn's calls can
    be approved for `wait` seconds."""

    change: Change
    claim: str
    wait: float | None = None


Write: TypeAlias = Insert | Claim | Save | Finish
PlainEffect: TypeAlias = Prepare | Load | Wait | Hook | Write
"""The effects that make no events. A type checker reports one that a driver does not perform."""

Effect: TypeAlias = PlainEffect | Emit | CallModel | RunTools
Machine: TypeAlias = Generator[Effect, Any, Outcome]


class Interrupted(BaseException):
    """Thrown into the machine in place of a result: the caller has left.

    `why` names the cause. `received` is the partial reply, `ran` are the results of calls that have ended.
    """

    def __init__(self, why: str, received: Delta = NO_DELTA, ran: tuple[ToolResult, ...] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.received = received
        self.ran = ran

    @classmethod
    def by(
        cls, error: BaseException, received: Delta = NO_DELTA, ran: tuple[ToolResult, ...] = ()
    ) -> Interrupted:
        is_closed = isinstance(error, GeneratorExit)
        return cls("StreamClosed" if is_closed else type(error).__name__, received, ran)


class ProviderCallFailed(Exception):
    """Thrown into the machine at `CallModel`: the provider failed after the partial reply `received`.

    Its `__cause__` is the provider's error.
    """

    def __init__(self, received: Delta = NO_DELTA) -> None:
        super().__init__()
        self.received = received


class ClaimLost(Exception):
    """Thrown into the machine at `CallModel` or `RunTools`: another process has ended the claim."""


class WriteUnconfirmed(Exception):
    """Thrown into the machine at a write: the database did not confirm it, so it may be stored.

    Its `__cause__` is the database's error.
    """
