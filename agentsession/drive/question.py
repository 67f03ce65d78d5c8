"""One question to a provider: what is asked, what has come of the answer, and what its errors become."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from agentsession.drive.interruption import is_raised_by_a_signal_handler
from agentsession.drive.received import Received
from agentsession.errors import ProviderError, words
from agentsession.events import Event
from agentsession.options import AgentOptions, Client
from agentsession.provider.choose import provider_for
from agentsession.provider.protocol import Provider, Request, checked
from agentsession.provider.redact import redacted, scrub
from agentsession.turn.effects import Ask
from agentsession.turn.exchange import Delta, Reply, View
from agentsession.turn.thrown import ClaimGone, Stopped, Unanswered


class Question:
    """Its answer is taken piece by piece."""

    reply: Reply | None = None
    is_kept = False
    """Is what has come of the answer stored as it comes? In a large document only the heartbeat does so."""

    def __init__(
        self, agent: AgentOptions, client_options: Mapping[str, Any] | None, effect: Ask, *, streams: bool
    ) -> None:
        self.client = agent.client_for(effect.client, client_options)
        self.provider: Provider = provider_for(agent, self.client)
        self.request = Request(
            effect.view,
            self.client,
            agent.output,
            agent.output_mode,
            agent.timeout,
            agent.retries,
            agent.tools,
        )
        self.streams = streams
        self.received = Received(agent.output)
        self._began = time.perf_counter()

    def take(self, piece: Delta | Reply) -> list[Event]:
        """Keep the next piece of the answer; gives the events that it makes."""
        if isinstance(piece, Delta):
            return [*self.received.add(piece)]
        self.reply = checked(piece, time.perf_counter() - self._began)
        return [*self.received.complete(self.reply)] if self.streams else []

    def is_due(self) -> bool:
        """Should what has come be stored now?"""
        return self.is_kept and self.received.is_due()

    def told(self, error: BaseException | None) -> None:
        """Raise what the machine is to know: what went wrong as `Unanswered`, and who left as `Stopped`, both
        with what had come."""
        if error is None or isinstance(error, ClaimGone):
            return
        if not isinstance(error, Exception) or is_raised_by_a_signal_handler(error):
            raise Stopped.by(error, self.received.delta) from error
        raise Unanswered(self.received.delta) from without_keys(error, self.client, self.request.view)


def without_keys(error: Exception, client: Client, view: View = ()) -> ProviderError:
    """What a provider raised, without keys and without what it repeats of the messages.

    Its cause is the error that it comes from.
    """
    cause = error.__cause__ if isinstance(error, ProviderError) else error
    said = redacted(words(error), client.options, view)
    if isinstance(error, ProviderError):
        fix = redacted(error.fix, client.options, view)
        clean = ProviderError(said, status=error.status, kind=error.kind, fix=fix)
    else:
        clean = ProviderError(f"{type(error).__name__}: {said}")
    clean.__cause__ = scrub(cause, client.options, view) if cause else None
    return clean
