"""What both drivers perform in the same way: the store's effects, making a provider ready, keeping the
partial text of a reply."""

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
from agentsession._drive.interruption import is_interruption
from agentsession._drive.model_call import ModelCall, without_keys
from agentsession._drive.pulse import Pulse
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
    Effect,
    Finish,
    Hook,
    Insert,
    Load,
    Ready,
    Save,
    Wait,
)
from agentsession.errors import ProviderFailed, TransactionOpen
from agentsession.provider.choose import provider_for

allow_transactions: ContextVar[bool] = ContextVar("allow_transactions", default=False)


class Waiting(Protocol):
    """A question, or calls of tools, that a driver waits for."""

    def interrupt(self) -> None:
        """End the wait, as if the reader of the stream had closed it."""


W = TypeVar("W", bound=Waiting)


class Performer:
    """What the effects of one turn are performed with. Without a session the writes are nobody's: a call
    stores nothing. `model` is the agent's class, `actor` is whose session it is, and `streams` says that the
    model is asked for pieces."""

    _current: ReferenceType[Waiting] | None = None
    """What the driver waits for, or waited for last. A strong reference would be a cycle."""

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
        self.log = TurnLog(agent.place, session)
        self.pulse = Pulse()

    @property
    def session_id(self) -> Any:
        return None if self.session is None else self.session.key

    @property
    def has_asked(self) -> bool:
        """Return whether the model was asked, or a tool was called."""
        return self._current is not None

    def waiting_for(self, current: W) -> W:
        self._current = ref(current)
        return current

    def interrupt(self) -> None:
        """End the wait of the driver, which runs on another thread or in another task."""
        current = None if self._current is None else self._current()
        if current is not None:
            current.interrupt()

    def call_hook(self, hook: Hook) -> Any:
        """What a function of the user's gives, which may have to be awaited."""
        with leaving_none_open(self.model):
            if hook.context is None:
                return hook.function(hook.value)
            context = msgspec.structs.replace(hook.context, session_id=self.session_id, actor=self.actor)
            return hook.function(context, hook.value)

    def question(self, effect: CallModel) -> ModelCall:
        question = ModelCall(self.agent, self.client_options, effect, streams=self.streams)
        question.is_kept = self.streams and self.session is not None and self.session.is_small
        return question

    def prepare(self, client_id: str | None) -> Ready:
        began = time.perf_counter()
        client = self.agent.client_for(client_id, self.client_options)
        provider: Any = provider_for(self.agent, client)
        failed: ProviderFailed | None = None
        try:
            if hasattr(provider, "prepare"):
                provider.prepare()
            if hasattr(provider, "check_client"):
                provider.check_client(client)
        except Exception as error:
            if is_interruption(error):
                raise
            clean = without_keys(error, client)
            failed = ProviderFailed(str(clean), why="nothing was stored", fix=clean.fix)
            failed.kind = clean.kind
            failed.__cause__ = clean.__cause__
        if failed is not None:  # raised above, it would have the raw error as `__context__`
            raise failed
        took = 0.0 if _clock.fake.get() else time.perf_counter() - began
        return Ready(_clock.seconds(), took)

    def store(self, effect: Effect) -> Any:
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
        raise AssertionError(f"a store performs no {type(effect).__name__}")

    def keep_partial(self, question: ModelCall) -> None:
        """Store what has come, which extends the lease; raises `ClaimLost` where another has ended the
        claim."""
        session = self.session
        if session is None or session.turn is None or session.turn.claim is None:
            return
        try:
            held = session.extend(session.turn.claim, session.options.lease, question.received.text)
        except Exception as error:
            if is_interruption(error):
                raise
            warn_about(session, "the partial reply could not be stored", error)
            held = True
        if not held:
            raise ClaimLost


def pause(wait: Wait) -> float:
    """Seconds to wait: a random part of a twentieth of the open turn's age."""
    usual = min(max(wait.age * 0.05, 0.01), 0.5)
    return min(random.uniform(0.5, 1.5) * usual, wait.remaining)


def at_once(value: Any) -> Any:
    """What a function of the user's gave; raises `TypeError` for a coroutine, which only a loop can await."""
    if not inspect.isawaitable(value):
        return value
    if inspect.iscoroutine(value):
        value.close()
    raise TypeError("it is asynchronous: await an async twin of the action (acontinue_session, …)")


def refuse_transaction(declared: Declared, action: str) -> None:
    """Raise `TransactionOpen` if the thread is inside a transaction on the model's database."""
    if allow_transactions.get() or not declared.inside:
        return
    raise TransactionOpen(
        f"{action} was called inside an open transaction",
        where=declared.name,
        why="the user's message could be rolled back after the model has answered it; nothing was stored",
        fix=f"call {action} outside `atomic()`, or pass run=False and resume_session after the commit "
        "(in a test: `with agentsession.testing.inside_transaction():`)",
    )
