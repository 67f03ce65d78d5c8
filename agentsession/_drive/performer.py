"""What both drivers perform in the same way: store effects, hooks, the preparation of a provider, pings."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar
from weakref import ReferenceType, ref

import msgspec

from agentsession import _clock
from agentsession._drive.model_call import ModelCall, without_keys
from agentsession._drive.stepper import is_interruption
from agentsession._drive.stream_events import Ping
from agentsession._drive.turn_log import TurnLog, warn_about
from agentsession._options import AgentOptions
from agentsession._store.declared import Declared
from agentsession._store.new_session import NewSession
from agentsession._store.session_store import StoredSession
from agentsession._store.transaction import leaving_none_open
from agentsession._turn.effects import (
    CallModel,
    Claim,
    ClaimLost,
    Finish,
    Hook,
    Insert,
    Load,
    Ready,
    Save,
    Wait,
    Write,
)
from agentsession.errors import ProviderFailed, TransactionOpen
from agentsession.events import Event
from agentsession.provider.choose import provider_for

allow_transactions: ContextVar[bool] = ContextVar("allow_transactions", default=False)


class Interruptible(Protocol):
    """A model call or a batch of tool calls, for which a driver waits."""

    def interrupt(self) -> None:
        """End the wait, as if the reader had closed the stream."""


C = TypeVar("C", bound=Interruptible)


class Pulse:
    """Tells when the next ping is due: `every` seconds after the last event, or never if `every` is None.

    The driver itself waits with this time limit. A thread that reads the driver into a queue would take the
    reader's connections, context variables and interruptions to another thread.
    """

    every: float | None = None

    def __init__(self) -> None:
        self._last = time.monotonic()

    def within(self, seconds: float | None) -> float | None:
        """Return how long to wait for an event that may take `seconds` (None: any time)."""
        if self.every is None:
            return seconds
        remaining = max(self._last + self.every - time.monotonic(), 0.0)
        return remaining if seconds is None else min(remaining, seconds)

    def events(self, events: list[Event]) -> list[Event]:
        """Return the events, or a ping if there are none and a ping is due."""
        now = time.monotonic()
        if not events:
            if self.every is None or now < self._last + self.every:
                return events
            events = [Ping()]
        self._last = now
        return events


class Performer:
    """Performs the effects of one turn. Without a session (a `call`), the store effects do nothing.

    `model` is the agent's class, and `actor` is whose session it is. `streams` tells whether the model is
    asked for its reply in pieces.
    """

    _current: ReferenceType[Interruptible] | None = None
    """What the driver waits for now, or waited for last. A strong reference would be a cycle."""

    def __init__(
        self,
        agent: AgentOptions,
        client_options: Mapping[str, Any] | None,
        session: StoredSession | None = None,
        model: type[Any] | None = None,
        *,
        actor: Any = None,
        streams: bool = False,
    ) -> None:
        self.agent = agent
        self.client_options = client_options
        self.session = session
        self.model = model
        self.actor = actor
        self.streams = streams
        self.log = TurnLog(agent.qualified_name, session)
        self.pulse = Pulse()

    @property
    def session_id(self) -> Any:
        return None if self.session is None else self.session.key

    @property
    def has_called(self) -> bool:
        """Return whether the model or a tool has been called."""
        return self._current is not None

    def set_current(self, current: C) -> C:
        """Keep what the driver waits for, so that `interrupt` can end the wait."""
        self._current = ref(current)
        return current

    def interrupt(self) -> None:
        """End the wait of the driver, which runs on another thread or in another task."""
        current = None if self._current is None else self._current()
        if current is not None:
            current.interrupt()

    def new_model_call(self, effect: CallModel) -> ModelCall:
        call = ModelCall(self.agent, self.client_options, effect, streams=self.streams)
        call.stores_partial_reply = self.streams and self.session is not None and self.session.is_small
        return call

    def call_hook(self, hook: Hook) -> Any:
        """Return what the user's function returns, which may be awaitable."""
        with leaving_none_open(self.model):
            if hook.context is None:
                return hook.function(hook.value)
            context = msgspec.structs.replace(hook.context, session_id=self.session_id, actor=self.actor)
            return hook.function(context, hook.value)

    def prepare(self, client_id: str | None) -> Ready:
        """Make the client's provider ready. Raise `ProviderFailed` if it cannot work."""
        began = time.perf_counter()
        client = self.agent.client_for(client_id, self.client_options)
        provider: Any = provider_for(self.agent, client)
        failure: ProviderFailed | None = None
        try:
            if hasattr(provider, "prepare"):
                provider.prepare()
            if hasattr(provider, "check_client"):
                provider.check_client(client)
        except Exception as error:
            if is_interruption(error):
                raise
            clean = without_keys(error, client)
            failure = ProviderFailed(str(clean), why="nothing was stored", fix=clean.fix)
            failure.kind = clean.kind
            failure.__cause__ = clean.__cause__
        if failure is not None:  # raised in the handler, it would have the raw error as its `__context__`
            raise failure
        clock = _clock.fake.get()
        return Ready(time.time(), time.perf_counter() - began) if clock is None else Ready(clock.seconds, 0.0)

    def access_store(self, effect: Load | Write) -> Any:
        """Perform an effect that reads or writes the session."""
        session = self.session
        match effect:
            case _ if session is None:
                return True
            case Load(change):
                return session.load(change, locking=True)
            case Insert(change) if isinstance(session, NewSession):
                return session.insert(change)
            case Claim(seen, change):
                return session.claim(seen, change)
            case Save(change, claim, lease):
                return session.save(change, claim, lease)
            case Finish(change, claim, wait):
                return session.finish(change, claim, wait)
        raise AssertionError(f"the store cannot perform {type(effect).__name__}")

    def store_partial_reply(self, call: ModelCall) -> None:
        """Store the partial reply and extend the lease. Raise `ClaimLost` if another process holds the turn.

        A database error is logged only: the model call goes on.
        """
        session = self.session
        if session is None or session.turn is None or session.turn.claim is None:
            return
        try:
            is_held = session.extend(session.turn.claim, session.options.lease, call.partial_reply.text)
        except Exception as error:
            if is_interruption(error):
                raise
            warn_about(session, "the partial reply could not be stored", error)
            is_held = True
        if not is_held:
            raise ClaimLost


def seconds_to_wait(wait: Wait) -> float:
    """Return how long to wait before the session is read again.

    Waiting is polling: it holds no connection, a crash leaves nothing to clean up, and all waiting callers
    have the same chance. The interval is about a twentieth of the open turn's age, at random.
    """
    usual = min(max(wait.age * 0.05, 0.01), 0.5)
    return min(random.uniform(0.5, 1.5) * usual, wait.remaining)


def refuse_awaitable(value: Any) -> Any:
    """Return a user function's value. Raise `TypeError` for an awaitable, which needs an event loop."""
    if not inspect.isawaitable(value):
        return value
    if inspect.iscoroutine(value):
        value.close()
    raise TypeError("it is asynchronous: await an async twin of the action (acontinue_session, …)")


def refuse_transaction(declared: Declared, action: str) -> None:
    """Raise `TransactionOpen` if the thread is inside a transaction on the model's database."""
    if allow_transactions.get() or not declared.in_caller_transaction:
        return
    raise TransactionOpen(
        f"{action} was called inside an open transaction",
        where=declared.name,
        why="the user's message could be rolled back after the model has answered it; nothing was stored",
        fix=f"call {action} outside `atomic()`, or pass run=False and resume_session after the commit "
        "(in a test: `with agentsession.testing.inside_transaction():`)",
    )
