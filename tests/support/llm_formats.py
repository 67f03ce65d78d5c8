"""A scripted reply in the two formats of a model's service, whole and as a stream of server-sent events.

https://platform.openai.com/docs/api-reference/chat/streaming and
https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

JsonMap = dict[str, Any]

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
"""OpenAI's word for the end of a reply, and Anthropic's."""


@dataclass(frozen=True)
class Calls:
    """A call of a tool, its arguments as JSON text."""

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True)
class Says:
    """A reply, in the form that the request asks for: a text, or the forced tool's arguments. Then, calls of
    tools. `redacted` is thinking that the service hides."""

    text: str = ""
    thinking: str = ""
    calls: tuple[Calls, ...] = ()
    redacted: str = ""
    input_tokens: int = 12
    output_tokens: int = 5
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: str = "stop"
    model: str = ""

    @property
    def ended(self) -> str:
        return "tool_calls" if self.calls and self.finish_reason == "stop" else self.finish_reason

    def id_of(self, nth: int, prefix: str) -> str:
        return self.calls[nth].id or f"{prefix}_{nth + 1}"


@dataclass(frozen=True)
class Streams(Says):
    """The same for a request that asks for a stream: in how many pieces, with how many seconds between them,
    and how it ends.

    After `after` pieces (None: all, which are those of the thinking, the text and each call's arguments) a
    stream that is `cut` breaks off in the middle of the body, one that ends `early` ends as HTTP should and
    says no word of it, one that ends with an `error` tells it as an event. One that ends `silent` says
    nothing more and leaves the connection open. A stream that ends `late` is cut once it has told its finish
    reason.
    """

    pieces: int = 4
    pause: float = 0.0
    ends: Literal["whole", "cut", "early", "error", "silent", "late"] = "whole"
    after: int | None = None


def streamed(reply: Says) -> Streams:
    return reply if isinstance(reply, Streams) else Streams(**vars(reply))


def openai_completion(reply: Says, asked: JsonMap) -> JsonMap:
    message: JsonMap = {"role": "assistant", "content": reply.text}
    if reply.thinking:
        message["reasoning_content"] = reply.thinking
    if reply.calls:
        message["content"] = reply.text or None
        message["tool_calls"] = [
            _openai_call(reply, nth, call.arguments) for nth, call in enumerate(reply.calls)
        ]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": reply.model or asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.ended}],
        "usage": _openai_usage(reply),
    }


def _openai_call(reply: Says, nth: int, arguments: str) -> JsonMap:
    function = {"name": reply.calls[nth].name, "arguments": arguments}
    return {"id": reply.id_of(nth, "call"), "type": "function", "function": function}


def _openai_usage(reply: Says) -> JsonMap:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
    }


def openai_pieces(reply: Streams, asked: JsonMap) -> Iterator[str]:
    yield _openai_chunk(reply, asked, {"role": "assistant", "content": ""})
    last: int | str = ""
    for part, piece in _sent(reply):
        if isinstance(part, str):
            yield _openai_chunk(reply, asked, {part: piece})
            continue
        if part != last:
            begun = {"index": part, **_openai_call(reply, part, "")}
            yield _openai_chunk(reply, asked, {"tool_calls": [begun]})
        more = {"index": part, "function": {"arguments": piece}}
        yield _openai_chunk(reply, asked, {"tool_calls": [more]})
        last = part


def openai_finish(reply: Streams, asked: JsonMap) -> Iterator[str]:
    yield _openai_chunk(reply, asked, {}, reply.ended)
    if reply.ends == "late":
        return
    if (asked.get("stream_options") or {}).get("include_usage"):
        yield _data(_openai_part(reply, asked) | {"choices": [], "usage": _openai_usage(reply)})
    yield "data: [DONE]\n\n"


def openai_error(message: str) -> str:
    return _data({"error": {"message": message, "type": "server_error", "param": None, "code": None}})


def _openai_chunk(reply: Streams, asked: JsonMap, delta: JsonMap, finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _data(_openai_part(reply, asked) | {"choices": [choice]})


def _openai_part(reply: Says, asked: JsonMap) -> JsonMap:
    named = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": int(time.time())}
    return named | {"model": reply.model or asked["model"], "usage": None}


def anthropic_message(reply: Says, asked: JsonMap) -> JsonMap:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": reply.model or asked["model"],
        "content": [*_blocks(reply, asked).values()],
        "stop_reason": _stop_reason(reply, asked),
        "stop_sequence": None,
        "usage": _anthropic_usage(reply) | {"output_tokens": reply.output_tokens},
    }


SIGNATURE = "c2lnbmVk"


def _blocks(reply: Says, asked: JsonMap) -> dict[int | str, JsonMap]:
    """The blocks of a message, by the part of the reply that they are."""
    blocks: dict[int | str, JsonMap] = {}
    if reply.thinking:
        thinking = {"type": "thinking", "thinking": reply.thinking, "signature": SIGNATURE}
        blocks["reasoning_content"] = thinking
    if reply.redacted:
        blocks["redacted"] = {"type": "redacted_thinking", "data": reply.redacted}
    if forced := _forced(asked):
        blocks["content"] = _tool_use("toolu_0", forced, reply.text)
    elif reply.text or not reply.calls:
        blocks["content"] = {"type": "text", "text": reply.text}
    for nth, call in enumerate(reply.calls):
        blocks[nth] = _tool_use(reply.id_of(nth, "toolu"), call.name, call.arguments)
    return blocks


def _tool_use(id: str, name: str, arguments: str) -> JsonMap:
    kind = "server_tool_use" if id.startswith("srvtoolu") else "tool_use"
    return {"type": kind, "id": id, "name": name, "input": json.loads(arguments)}


def _anthropic_usage(reply: Says) -> JsonMap:
    return {
        "input_tokens": reply.input_tokens - reply.cached_tokens,
        "cache_read_input_tokens": reply.cached_tokens,
        "cache_creation_input_tokens": 0,
    }


def _forced(asked: JsonMap) -> str | None:
    name: str | None = asked.get("tool_choice", {}).get("name")
    return name


def _stop_reason(reply: Says, asked: JsonMap) -> str:
    return "tool_use" if _forced(asked) else STOP_REASONS[reply.ended]


def anthropic_pieces(reply: Streams, asked: JsonMap) -> Iterator[str]:
    empty: JsonMap = {
        "content": [],
        "stop_reason": None,
        "usage": _anthropic_usage(reply) | {"output_tokens": 1},
    }
    yield _event("message_start", message=anthropic_message(reply, asked) | empty)
    yield _event("ping")
    sent = [*_sent(reply)]
    for index, (part, block) in enumerate(_blocks(reply, asked).items()):
        pieces = [piece for at, piece in sent if at == part]
        if reply.after is not None and not pieces:
            return
        yield from _anthropic_block(index, block, pieces)


def _anthropic_block(index: int, block: JsonMap, pieces: list[str]) -> Iterator[str]:
    if block["type"] == "redacted_thinking":
        yield _event("content_block_start", index=index, content_block=block)
        yield _event("content_block_stop", index=index)
        return
    key, kind, name = ANTHROPIC_DELTAS[block["type"]]
    empty: JsonMap = {key: {} if key == "input" else ""}
    yield _event("content_block_start", index=index, content_block=block | empty)
    for piece in pieces:
        yield _anthropic_delta(index, kind, **{name: piece})
    if "signature" in block:
        yield _anthropic_delta(index, "signature_delta", signature=block["signature"])
    yield _event("content_block_stop", index=index)


ANTHROPIC_DELTAS = {
    "thinking": ("thinking", "thinking_delta", "thinking"),
    "text": ("text", "text_delta", "text"),
    "tool_use": ("input", "input_json_delta", "partial_json"),
    "server_tool_use": ("input", "input_json_delta", "partial_json"),
}


def anthropic_finish(reply: Streams, asked: JsonMap) -> Iterator[str]:
    delta = {"stop_reason": _stop_reason(reply, asked), "stop_sequence": None}
    yield _event("message_delta", delta=delta, usage={"output_tokens": reply.output_tokens})
    if reply.ends != "late":
        yield _event("message_stop")


def anthropic_error(message: str) -> str:
    return _event("error", error={"type": "overloaded_error", "message": message})


def _anthropic_delta(index: int, kind: str, **delta: str) -> str:
    return _event("content_block_delta", index=index, delta={"type": kind, **delta})


def _event(name: str, **data: Any) -> str:
    return f"event: {name}\n{_data({'type': name, **data})}"


def _data(value: JsonMap) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _sent(reply: Streams) -> Iterator[tuple[int | str, str]]:
    """The pieces that are sent, each with the part that it belongs to: a call's is its number."""
    parts: list[tuple[int | str, str]] = [("reasoning_content", reply.thinking), ("content", reply.text)]
    parts += [(nth, call.arguments) for nth, call in enumerate(reply.calls)]
    pieces = ((part, piece) for part, text in parts for piece in _pieces(text, reply.pieces))
    return islice(pieces, reply.after)


def _pieces(text: str, count: int) -> list[str]:
    """The text in so many pieces of nearly one length, in fewer if it is short."""
    size = max(-(-len(text) // count), 1)
    return [text[start : start + size] for start in range(0, len(text), size)]


@dataclass(frozen=True)
class Format:
    """How one service says a reply: whole, or its pieces, its proper end and an error in the middle."""

    whole: Any
    pieces: Any
    finish: Any
    error: Any


FORMATS = {
    "/v1/chat/completions": Format(openai_completion, openai_pieces, openai_finish, openai_error),
    "/v1/messages": Format(anthropic_message, anthropic_pieces, anthropic_finish, anthropic_error),
}
