"""One question to a provider: what is asked, what has come of the answer, and what its errors become."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic_core import from_json

from agentsession._drive.interruption import is_raised_by_a_signal_handler
from agentsession._json_values import Json, storable_text
from agentsession._options import AgentOptions, Client
from agentsession._schema import OutputSchema
from agentsession._turn.effects import CallModel, ClaimLost, Interrupted, ProviderCallFailed
from agentsession._turn.model_io import Delta, Prompt, Reply
from agentsession.errors import ProviderCallError, words
from agentsession.events import Event, PartialOutput, TextDelta, ThinkingDelta
from agentsession.provider.choose import provider_for
from agentsession.provider.protocol import Provider, Request, checked
from agentsession.provider.redact import redacted, scrub


class ModelCall:
    """Its answer is taken piece by piece."""

    reply: Reply | None = None
    is_kept = False
    """Is what has come of the answer stored as it comes? In a large document only the heartbeat does so."""

    def __init__(
        self,
        agent: AgentOptions,
        client_options: Mapping[str, Any] | None,
        effect: CallModel,
        *,
        streams: bool,
    ) -> None:
        self.client = agent.client_for(effect.client, client_options)
        self.provider: Provider = provider_for(agent, self.client)
        self.request = Request(
            effect.prompt,
            self.client,
            agent.output,
            agent.output_mode,
            agent.timeout,
            agent.retries,
            agent.tools,
        )
        self.streams = streams
        self.received = PartialReply(agent.output)
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
        """Raise a failure as `ProviderCallFailed`, a stop as `Interrupted`; both hold the partial reply."""
        if error is None or isinstance(error, ClaimLost):
            return
        if not isinstance(error, Exception) or is_raised_by_a_signal_handler(error):
            raise Interrupted.by(error, self.received.delta) from error
        raise ProviderCallFailed(self.received.delta) from without_keys(
            error, self.client, self.request.prompt
        )


def without_keys(error: Exception, client: Client, prompt: Prompt = ()) -> ProviderCallError:
    """What a provider raised, without keys and without what it repeats of the messages.

    Its cause is the error that it comes from.
    """
    cause = error.__cause__ if isinstance(error, ProviderCallError) else error
    said = redacted(words(error), client.options, prompt)
    if isinstance(error, ProviderCallError):
        fix = redacted(error.fix, client.options, prompt)
        clean = ProviderCallError(said, status=error.status, kind=error.kind, fix=fix)
    else:
        clean = ProviderCallError(f"{type(error).__name__}: {said}")
    clean.__cause__ = scrub(cause, client.options, prompt) if cause else None
    return clean


REST = 20
"""How many times as long as the last write took until the next one."""

GROWTH = 16
"""Structured output is parsed again once its text has grown by this part, so that all parsing together costs
no more than the text is long."""

_NUMBER = "0123456789.eE+-"
"""The characters of a JSON number."""

_NUMBER_BEGINS = re.compile(r"(?<![\w\"])-?[0-9]")


class _Pieces:
    """A text that comes in pieces, each made fit for events and databases. JSON writes some characters in two
    halves, which two pieces may bring: the first half waits for the second."""

    def __init__(self) -> None:
        self._added: list[str] = []
        self._half = ""

    def __bool__(self) -> bool:
        return bool(self._added or self._half)

    @property
    def joined(self) -> str:
        return "".join(self._added)

    def add(self, piece: str) -> str:
        text = self._half + piece
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return self._keep(text.removesuffix(self._half))

    def end(self) -> str:
        """Return what still waits."""
        text, self._half = self._half, ""
        return self._keep(text)

    def _keep(self, text: str) -> str:
        kept = storable_text(text)
        if kept:
            self._added.append(kept)
        return kept


class PartialReply:
    def __init__(self, output: OutputSchema) -> None:
        self.output = output
        self.length = 0
        self._text = _Pieces()
        self._thinking = _Pieces()
        self._parsed = 0
        self._shown: Json = None
        self._due = 0.0

    @property
    def text(self) -> str:
        return self._text.joined

    @property
    def delta(self) -> Delta:
        return Delta(self.text, self._thinking.joined)

    def add(self, delta: Delta) -> Iterator[Event]:
        """Keep the next piece; gives what it tells."""
        yield from self._events(self._thinking.add(delta.thinking), self._text.add(delta.text))

    def _events(self, thinking: str, text: str) -> Iterator[Event]:
        if thinking:
            yield ThinkingDelta(thinking)
        if text:
            self.length += len(text)
            yield TextDelta(text)
            if not self.output.is_text and self.length > self._parsed + self._parsed // GROWTH:
                yield from self._partial_output()

    def complete(self, reply: Reply) -> Iterator[Event]:
        """Gives what the whole reply tells and its pieces did not: all of it, from a provider without
        pieces."""
        if not self._text and not self._thinking:
            yield from self.add(Delta(reply.text, reply.thinking))
        yield from self._events(self._thinking.end(), self._text.end())
        if not self.output.is_text and self.length > self._parsed:
            yield from self._partial_output()

    def _partial_output(self) -> Iterator[Event]:
        text = self.text
        self._parsed = self.length
        start = text.find("{")
        if start < 0:
            return
        try:
            value = from_json(_without_open_number(text[start:]), allow_partial="trailing-strings")
        except ValueError:  # prose behind the value
            return
        value = value.get("output") if self.output.is_wrapped else value
        if value is not None and value != self._shown:
            self._shown = value
            yield PartialOutput(value)

    def is_due(self) -> bool:
        """Is it time to store what has come?"""
        return self.length > 0 and time.monotonic() >= self._due

    @contextmanager
    def being_stored(self) -> Iterator[None]:
        """The write, with the time that it waits for its turn: many streams at once rest longer."""
        began = time.monotonic()
        yield
        now = time.monotonic()
        self._due = now + REST * (now - began)


def _without_open_number(text: str) -> str:
    """The text without a number at its end, which may go on. The search starts at the end: one that starts at
    each digit takes quadratic time for `1.1.1.1`."""
    begins = _NUMBER_BEGINS.search(text, len(text.rstrip(_NUMBER)))
    return text if begins is None else text[: begins.start()]
