"""A model call: its request, the partial reply while pieces arrive, the events that they make, its errors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic_core import from_json

from agentsession._drive.stepper import is_interruption
from agentsession._json_values import Json, storable_text
from agentsession._options import AgentOptions, Client
from agentsession._safe_errors import error_message
from agentsession._schema import OutputSchema
from agentsession._turn.effects import CallModel, ClaimLost, Interrupted, ProviderCallFailed
from agentsession._turn.model_io import Delta, Prompt, Reply
from agentsession.errors import ProviderCallError
from agentsession.events import Event, PartialOutput, TextDelta, ThinkingDelta
from agentsession.provider.choose import provider_for
from agentsession.provider.protocol import Provider, Request, checked
from agentsession.provider.redaction import redacted, scrub

STORE_PAUSE = 20
"""The pause between two writes of the partial reply, as a multiple of the time that the last write took."""

PARSE_GROWTH = 16
"""Structured output is parsed again when its text has grown by one part in this number. So the time for all
parsing together is linear in the length of the text."""

_NUMBER = "0123456789.eE+-"
"""The characters of a JSON number."""

_NUMBER_START = re.compile(r"(?<![\w\"])-?[0-9]")


class ModelCall:
    """One call of a model, whose reply is accepted piece by piece."""

    reply: Reply | None = None

    stores_partial_reply = False
    """Whether the driver stores the partial reply while pieces arrive. In a large document only the heartbeat
    does so."""

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
        self.partial_reply = PartialReply(agent.output)
        self._began = time.perf_counter()

    def accept(self, piece: Delta | Reply) -> list[Event]:
        """Keep the next piece of the reply, and return the events that it makes."""
        if isinstance(piece, Delta):
            return [*self.partial_reply.add(piece)]
        self.reply = checked(piece, time.perf_counter() - self._began)
        return [*self.partial_reply.complete(self.reply)] if self.streams else []

    def is_store_due(self) -> bool:
        """Return whether the partial reply is to be stored now."""
        return self.stores_partial_reply and self.partial_reply.is_store_due()

    def raise_failure(self, error: BaseException | None) -> None:
        """Raise `Interrupted` or `ProviderCallFailed`, with the partial reply, for an error of the call.

        `ClaimLost` is left as it is.
        """
        if error is None or isinstance(error, ClaimLost):
            return
        delta = self.partial_reply.delta
        if not isinstance(error, Exception) or is_interruption(error):
            raise Interrupted.by(error, delta) from error
        raise ProviderCallFailed(delta) from without_keys(error, self.client, self.request.prompt)


class PartialReply:
    """The pieces of a reply so far, and the events that they make."""

    def __init__(self, output: OutputSchema) -> None:
        self.output = output
        self.length = 0
        self._text = _Text()
        self._thinking = _Text()
        self._parsed_length = 0
        self._last_value: Json = None
        self._next_store = 0.0

    @property
    def text(self) -> str:
        return self._text.joined

    @property
    def delta(self) -> Delta:
        """All pieces so far as one delta."""
        return Delta(self.text, self._thinking.joined)

    def add(self, delta: Delta) -> Iterator[Event]:
        """Keep the next piece, and yield its events."""
        yield from self._events(self._thinking.add(delta.thinking), self._text.add(delta.text))

    def complete(self, reply: Reply) -> Iterator[Event]:
        """Yield the events of a reply that its pieces have not made: all of them if there were no pieces."""
        if not self._text and not self._thinking:
            yield from self.add(Delta(reply.text, reply.thinking))
        yield from self._events(self._thinking.end(), self._text.end())
        if not self.output.is_text and self.length > self._parsed_length:
            yield from self._partial_output()

    def is_store_due(self) -> bool:
        """Return whether there is text, and the pause after the last write is over."""
        return self.length > 0 and time.monotonic() >= self._next_store

    @contextmanager
    def timing_store(self) -> Iterator[None]:
        """Measure the write in the block, which sets the pause until the next one.

        The time includes the wait for a worker or a connection: when many streams run at once, each stores
        its partial reply less often. With the time of the write alone, 200 streams took twice as long.
        """
        began = time.monotonic()
        yield
        now = time.monotonic()
        self._next_store = now + STORE_PAUSE * (now - began)

    def _events(self, thinking: str, text: str) -> Iterator[Event]:
        if thinking:
            yield ThinkingDelta(thinking)
        if text:
            self.length += len(text)
            yield TextDelta(text)
            parsed = self._parsed_length
            if not self.output.is_text and self.length > parsed + parsed // PARSE_GROWTH:
                yield from self._partial_output()

    def _partial_output(self) -> Iterator[Event]:
        text = self.text
        self._parsed_length = self.length
        start = text.find("{")
        if start < 0:
            return
        try:
            value = from_json(_without_open_number(text[start:]), allow_partial="trailing-strings")
        except ValueError:  # there is prose after the JSON value
            return
        value = value.get("output") if self.output.is_wrapped else value
        if value is not None and value != self._last_value:
            self._last_value = value
            yield PartialOutput(value)


class _Text:
    """A text in pieces, each without characters that events and databases cannot hold.

    JSON writes some characters as two surrogates, which two pieces may split: the first one is held back.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._surrogate = ""

    def __bool__(self) -> bool:
        return bool(self._pieces or self._surrogate)

    @property
    def joined(self) -> str:
        return "".join(self._pieces)

    def add(self, piece: str) -> str:
        """Keep the piece. Return its text, with a surrogate that was held back."""
        text = self._surrogate + piece
        self._surrogate = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return self._keep(text.removesuffix(self._surrogate))

    def end(self) -> str:
        """Return the text that is still held back."""
        text, self._surrogate = self._surrogate, ""
        return self._keep(text)

    def _keep(self, text: str) -> str:
        storable = storable_text(text)
        if storable:
            self._pieces.append(storable)
        return storable


def _without_open_number(text: str) -> str:
    """Return the text without a number at its end, because more digits may follow.

    The search starts at the end: a search from each digit takes quadratic time for `1.1.1.1`.
    """
    start = _NUMBER_START.search(text, len(text.rstrip(_NUMBER)))
    return text if start is None else text[: start.start()]


def without_keys(error: Exception, client: Client, prompt: Prompt = ()) -> ProviderCallError:
    """Return a provider's error without keys and without text of the messages. Its cause is cleaned, too."""
    cause = error.__cause__ if isinstance(error, ProviderCallError) else error
    text = redacted(error_message(error), client.options, prompt)
    if isinstance(error, ProviderCallError):
        fix = redacted(error.fix, client.options, prompt)
        clean = ProviderCallError(text, status=error.status, kind=error.kind, fix=fix)
    else:
        clean = ProviderCallError(f"{type(error).__name__}: {text}")
    clean.__cause__ = scrub(cause, client.options, prompt) if cause else None
    return clean
