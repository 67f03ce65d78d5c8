"""A reply in pieces through litellm, whose wait for the next piece can be ended from another thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from inspect import getgeneratorlocals, isawaitable, isgenerator
from typing import Any

from agentsession._json_values import JsonMap
from agentsession._turn.model_io import NO_DELTA, Delta, Reply
from agentsession.provider.litellm import wire
from agentsession.provider.litellm.tool_calls import Calls
from agentsession.provider.protocol import Request


class StreamedReply:
    """One stream, read once."""

    def __init__(self, litellm: Any, request: Request, stream: Any) -> None:
        self.litellm = litellm
        self.request = request
        self.stream = stream
        self.deltas: list[Delta] = []
        self.finish_reason = ""
        self.calls = Calls()
        self.thoughts = Thoughts()
        self.source = stream.completion_stream
        if getattr(self.source, "json_mode", False):
            self.source.json_mode = False  # would parse each piece of JSON by itself: ` true` becomes `true`

    def pieces(self) -> Generator[Delta | Reply]:
        failed = None
        if isinstance(self.source, Iterator):
            self.stream.completion_stream = map(_with_refusal, self.source)
        try:
            for chunk in self.stream:
                if delta := self._delta(chunk):
                    yield delta
        except Exception as error:
            failed = _origin(error)
        finally:
            for close in self._closings("close"):
                close()
        self._demand_the_end(failed)
        yield self._reply()

    async def apieces(self) -> AsyncGenerator[Delta | Reply]:
        failed = None
        if isinstance(self.source, AsyncIterable):
            self.stream.completion_stream = (_with_refusal(chunk) async for chunk in self.source)
        try:
            async for chunk in self.stream:
                if delta := self._delta(chunk):
                    yield delta
        except Exception as error:
            failed = _origin(error)
        finally:
            await self.stream.aclose()
            for close in self._closings("aclose", "close"):
                closed = close()
                if isawaitable(closed):
                    await closed
        self._demand_the_end(failed)
        yield self._reply()

    def _closings(self, *names: str) -> Iterator[Callable[[], Any]]:
        """Yield the methods that release the connection: of the source of the chunks, and of its lines.

        Each of the two is closed by the first of the methods `names` that it has. Some classes have one
        for sync and one for async streams.
        """
        for part in (self.source, getattr(self.source, "streaming_response", None)):
            if closes := [getattr(part, name) for name in names if hasattr(part, name)]:
                yield closes[0]

    def _delta(self, chunk: Any) -> Delta:
        if not chunk.choices:
            return NO_DELTA
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        self.thoughts.add(choice.delta)
        text = wire.text_of(choice.delta) + self.calls.add(choice.delta)
        delta = Delta(text, getattr(choice.delta, "reasoning_content", None) or "")
        self.deltas.append(delta)
        return delta

    def _demand_the_end(self, failed: Exception | None) -> None:
        """Raise if the stream ended before the reply was complete.

        litellm invents a finish reason for a stream that ends without one, and keeps the true one in
        `received_finish_reason`. With a true one the reply is complete, whatever happens to the connection.
        Every piece of a Gemini stream has the same reason, so there the connection decides.
        """
        has_true_reason = self.stream.received_finish_reason is not None
        if not has_true_reason and (failed or not self.stream.intermittent_finish_reason):
            raise failed or ConnectionError("the stream ended before the reply was complete")

    def _reply(self) -> Reply:
        """Return the reply in one piece. Its usage is the reported one, never an estimate."""
        chunks = self.stream.chunks
        response = self.litellm.stream_chunk_builder(chunks, messages=[])
        reported = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
        response.usage = reported[-1] if reported else None
        if reported:
            priced = self.stream.logging_obj._response_cost_calculator(result=response)
            response._hidden_params["response_cost"] = priced
        if response.choices:
            response.choices[0].message.thinking_blocks = self.thoughts.blocks or None
        is_forced = self.calls.forced and not self.calls.own
        finish_reason = "stop" if is_forced else self.finish_reason or self.stream.received_finish_reason
        return replace(
            wire.reply(self.litellm, self.request, response, self.calls),
            text="".join(delta.text for delta in self.deltas),
            thinking="".join(delta.thinking for delta in self.deltas),
            finish_reason=finish_reason,
        )


def _with_refusal(chunk: Any) -> Any:
    """Return the chunk with a refusal as its text, which litellm would leave out."""
    for choice in getattr(chunk, "choices", None) or ():
        if refusal := getattr(choice.delta, "refusal", None):
            choice.delta.content = refusal
    return chunk


def _origin(error: Exception) -> Exception:
    """Return the original error. litellm wraps it in an error that holds the partial reply."""
    origin = getattr(error, "original_exception", None)
    return origin if isinstance(origin, Exception) else error


class Thoughts:
    """Collects the thinking blocks of a stream.

    litellm repeats the whole text with the signature of an Anthropic block, and its own builder appends the
    repetition to the text: the signature would no longer match.
    """

    def __init__(self) -> None:
        self.blocks: list[JsonMap] = []
        self._pieces: list[str] = []

    def add(self, delta: Any) -> None:
        """Add the thinking of a piece of the stream."""
        for piece in getattr(delta, "thinking_blocks", None) or ():
            if piece.get("type") == "redacted_thinking":
                self.blocks.append({name: value for name, value in piece.items() if name != "index"})
                continue
            text = piece.get("thinking") or ""
            signature = piece.get("signature")
            self._pieces.append(text)
            if signature:
                before = "".join(self._pieces[:-1])
                thinking = text if text.startswith(before) else before + text
                self.blocks.append({"type": "thinking", "thinking": thinking, "signature": signature})
                self._pieces = []


class Aborting:
    """Notes that the reader has left a stream, and ends the response that the stream reads."""

    def __init__(self) -> None:
        self._is_aborted = threading.Event()
        self._source: Any = None

    def reads(self, source: Any) -> None:
        """Note what the stream reads from now on. After `abort` the reading ends at once."""
        self._source = source
        if self._is_aborted.is_set():
            _shut_down(source)

    def abort(self) -> None:
        """End the wait for the next piece or the next attempt, from any thread."""
        self._is_aborted.set()
        _shut_down(self._source)

    def pause(self, seconds: float) -> None:
        """Wait before another attempt. Raise `ConnectionAbortedError` after `abort`."""
        if self._is_aborted.wait(seconds):
            raise ConnectionAbortedError("the stream was left")


class Abortable:
    """The pieces of a generator, with a method `abort`."""

    def __init__(self, pieces: Callable[[Aborting], Generator[Delta | Reply]]) -> None:
        self._aborting = Aborting()
        self._pieces = pieces(self._aborting)

    def __iter__(self) -> Abortable:
        return self

    def __next__(self) -> Delta | Reply:
        return next(self._pieces)

    def close(self) -> None:
        self._pieces.close()

    def abort(self) -> None:
        """End the wait for the next piece, from any thread."""
        self._aborting.abort()


def _shut_down(source: Any) -> None:
    """Shut down the connection, so that the thread that reads the response sees its end.

    Closing a socket does not wake a thread that reads it. Shutting it down does. A response that is read to
    its end has returned its connection, which another request may use. HTTP/2 shares it at any time.
    """
    for response in _responses(source):
        if not response.is_closed and not str(response.http_version).startswith("HTTP/2"):
            connection = response.extensions["network_stream"].get_extra_info("socket")
            if isinstance(connection, socket.socket):
                with suppress(OSError):  # it was closed meanwhile
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of TLS, too: its state stays


def _responses(source: Any) -> list[Any]:
    """Return the `httpx.Response` behind a stream of litellm: its attribute, or that of its lines."""
    found = [getattr(source, name, None) for name in ("response", "http_response", "_response")]
    lines = getattr(source, "streaming_response", None)
    if isgenerator(lines):
        found.append(getgeneratorlocals(lines).get("self"))
    return [each for each in found if "network_stream" in getattr(each, "extensions", ())]
