"""What has come of one reply: the events that it makes, and when it is worth a write."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic_core import from_json

from agentsession.events import Event, PartialOutput, TextDelta, ThinkingDelta
from agentsession.json_values import Json
from agentsession.schema import OutputSchema
from agentsession.turn.exchange import Delta, Reply

REST = 20
"""How many times as long as the last write took until the next one."""

GROWTH = 16
"""Structured output is parsed again once its text has grown by this part, so that all parsing together costs
no more than the text is long."""

_NUMBER_AT_THE_END = re.compile(r"(?<![\w\"])-?[0-9][0-9.eE+-]*$")


class Received:
    def __init__(self, output: OutputSchema) -> None:
        self.output = output
        self.length = 0
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._parsed = 0
        self._shown: Json = None
        self._due = 0.0

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def delta(self) -> Delta:
        return Delta(self.text, "".join(self._thinking))

    def add(self, delta: Delta) -> Iterator[Event]:
        """Keep the next piece; gives what it tells."""
        if delta.thinking:
            self._thinking.append(delta.thinking)
            yield ThinkingDelta(delta.thinking)
        if delta.text:
            self._text.append(delta.text)
            self.length += len(delta.text)
            yield TextDelta(delta.text)
            if not self.output.is_text and self.length > self._parsed + self._parsed // GROWTH:
                yield from self._partial_output()

    def complete(self, reply: Reply) -> Iterator[Event]:
        """Gives what the whole reply tells and its pieces did not: all of it, from a provider without
        pieces."""
        if not self._text and not self._thinking:
            yield from self.add(Delta(reply.text, reply.thinking))
        if not self.output.is_text and self.length > self._parsed:
            yield from self._partial_output()

    def _partial_output(self) -> Iterator[Event]:
        text = self.text
        self._parsed = self.length
        start = text.find("{")
        if start < 0:
            return
        try:
            value = from_json(_NUMBER_AT_THE_END.sub("", text[start:]), allow_partial="trailing-strings")
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
