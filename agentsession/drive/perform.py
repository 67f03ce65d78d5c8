"""How each effect is performed: the store's for reads and writes, the provider's for questions."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import peewee

from agentsession import clock, info
from agentsession.drive.heartbeat import kept_alive
from agentsession.errors import ProviderError, ProviderFailed, TransactionOpen, words
from agentsession.options import AgentOptions, Client
from agentsession.provider.choose import provider_for
from agentsession.provider.protocol import Request, checked
from agentsession.provider.redact import redacted, scrub
from agentsession.store.connection import in_transaction
from agentsession.store.document import DocumentSession
from agentsession.store.new_document import NewDocumentSession
from agentsession.turn.effects import (
    Ask,
    Claim,
    Effect,
    Finish,
    Insert,
    Load,
    Prepare,
    Ready,
    Reply,
    Save,
    Wait,
)

allow_transactions: ContextVar[bool] = ContextVar("allow_transactions", default=False)


class Asking:
    """Performs the effects that concern the model. Writes are nobody's: a call stores nothing."""

    def __init__(self, agent: AgentOptions, client_options: Mapping[str, Any] | None) -> None:
        self.agent = agent
        self.client_options = client_options

    def __call__(self, effect: Effect) -> Any:
        match effect:
            case Prepare(client):
                return self.prepare(client)
            case Ask():
                return self.ask(effect)
        return True

    def prepare(self, client_id: str | None) -> Ready:
        began = time.perf_counter()
        client = self.agent.client_for(client_id, self.client_options)
        prepare = getattr(provider_for(self.agent, client), "prepare", None)
        if prepare is not None:
            try:
                prepare()
            except Exception as error:
                failed = ProviderFailed(str(_clean(error, client)), why="nothing was stored")
                raise failed from scrub(error, client.options)
        took = 0.0 if clock.fake.get() else time.perf_counter() - began
        return Ready(clock.seconds(), took)

    def ask(self, effect: Ask) -> Reply:
        agent = self.agent
        client = agent.client_for(effect.client, self.client_options)
        request = Request(effect.view, client, agent.output, agent.output_mode, agent.timeout, agent.retries)
        began = time.perf_counter()
        try:
            reply = checked(provider_for(agent, client).ask(request))
        except Exception as error:
            cause = error.__cause__ if isinstance(error, ProviderError) else error
            raise _clean(error, client) from (scrub(cause, client.options) if cause else None)
        return replace(reply, duration=time.perf_counter() - began)


def _clean(error: Exception, client: Client) -> ProviderError:
    """What a provider raised, without keys."""
    said = redacted(words(error), client.options)
    if isinstance(error, ProviderError):
        return ProviderError(said, status=error.status)
    return ProviderError(f"{type(error).__name__}: {said}")


class Storing(Asking):
    """Performs the effects of a session's turn."""

    def __init__(
        self, agent: AgentOptions, client_options: Mapping[str, Any] | None, session: DocumentSession
    ) -> None:
        super().__init__(agent, client_options)
        self.session = session

    def __call__(self, effect: Effect) -> Any:
        match effect:
            case Load(change):
                return self.session.load(change, locking=True)
            case Wait():
                return pause(effect)
            case Insert(change) if isinstance(self.session, NewDocumentSession):
                return self.session.insert(change)
            case Claim(seen, change):
                return self.session.claim(seen, change)
            case Save(change, claim, lease):
                return self.session.save(change, claim, lease)
            case Finish(change, claim):
                return self.session.finish(change, claim)
        return super().__call__(effect)

    def ask(self, effect: Ask) -> Reply:
        with kept_alive(self.session):
            return super().ask(effect)


def pause(wait: Wait) -> float:
    """Sleep for a random part of a twentieth of the open turn's age, holding no connection of ours."""
    usual = min(max(wait.age * 0.05, 0.01), 0.5)
    duration = min(random.uniform(0.5, 1.5) * usual, wait.left)
    clock.sleep(duration)
    return duration


def refuse_transaction(model: type[peewee.Model], action: str) -> None:
    """Raise `TransactionOpen` if the thread is inside a transaction on the model's database."""
    if allow_transactions.get() or not in_transaction(model):
        return
    raise TransactionOpen(
        f"{action} was called inside an open transaction",
        where=info.place(model),
        why="the user's message could be rolled back after the model has answered it; nothing was stored",
        fix=f"call {action} outside `atomic()`, or pass run=False and resume_session after the commit "
        "(in a test: `with agentsession.testing.inside_transaction():`)",
    )
