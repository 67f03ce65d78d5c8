"""A scripted reply in the two formats of a model's service, whole and as a stream of server-sent events.

https://platform.openai.com/docs/api-reference/chat/streaming and
https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

JsonMap = dict[str, Any]

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
"""OpenAI's word for the end of a reply, and Anthropic's."""


@dataclass(frozen=True)
class Says:
    """A reply, in the form that the request asks for: a text, or the forced tool's arguments."""

    text: str
    thinking: str = ""
    input_tokens: int = 12
    output_tokens: int = 5
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: str = "stop"
    model: str = ""


@dataclass(frozen=True)
class Streams(Says):
    """The same for a request that asks for a stream: in how many pieces, with how many seconds between them,
    and how it ends.

    After `after` pieces (None: all) a stream that is `cut` breaks off in the middle of the body, one that
    ends `early` ends as HTTP should and says no word of it, one that ends with an `error` tells it as an
    event. A stream that ends `late` is cut once it has told its finish reason.
    """

    pieces: int = 4
    pause: float = 0.0
    ends: Literal["whole", "cut", "early", "error", "late"] = "whole"
    after: int | None = None


def streamed(reply: Says) -> Streams:
    return reply if isinstance(reply, Streams) else Streams(**vars(reply))


def openai_completion(reply: Says, asked: JsonMap) -> JsonMap:
    message: JsonMap = {"role": "assistant", "content": reply.text}
    if reply.thinking:
        message["reasoning_content"] = reply.thinking
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": reply.model or asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        "usage": _openai_usage(reply),
    }


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
    thinking, text = _sent(reply)
    for piece in thinking:
        yield _openai_chunk(reply, asked, {"reasoning_content": piece})
    for piece in text:
        yield _openai_chunk(reply, asked, {"content": piece})


def openai_finish(reply: Streams, asked: JsonMap) -> Iterator[str]:
    yield _openai_chunk(reply, asked, {}, reply.finish_reason)
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
    content: list[JsonMap] = []
    if reply.thinking:
        content.append({"type": "thinking", "thinking": reply.thinking, "signature": "c2lnbmVk"})
    forced = _forced(asked)
    if forced:
        block = {"type": "tool_use", "id": "toolu_1", "name": forced, "input": json.loads(reply.text)}
    else:
        block = {"type": "text", "text": reply.text}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": reply.model or asked["model"],
        "content": [*content, block],
        "stop_reason": _stop_reason(reply, asked),
        "stop_sequence": None,
        "usage": _anthropic_usage(reply) | {"output_tokens": reply.output_tokens},
    }


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
    return "tool_use" if _forced(asked) else STOP_REASONS[reply.finish_reason]


def anthropic_pieces(reply: Streams, asked: JsonMap) -> Iterator[str]:
    empty = {"content": [], "stop_reason": None, "usage": _anthropic_usage(reply) | {"output_tokens": 1}}
    yield _event("message_start", message=anthropic_message(reply, asked) | empty)
    yield _event("ping")
    thinking, text = _sent(reply)
    if reply.thinking:
        yield _event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""})
        for piece in thinking:
            yield _anthropic_delta(0, "thinking_delta", thinking=piece)
        yield _anthropic_delta(0, "signature_delta", signature="c2lnbmVk")
        yield _event("content_block_stop", index=0)
    index, forced = int(bool(reply.thinking)), _forced(asked)
    block: JsonMap = {"type": "text", "text": ""}
    if forced:
        block = {"type": "tool_use", "id": "toolu_1", "name": forced, "input": {}}
    yield _event("content_block_start", index=index, content_block=block)
    for piece in text:
        if forced:
            yield _anthropic_delta(index, "input_json_delta", partial_json=piece)
        else:
            yield _anthropic_delta(index, "text_delta", text=piece)


def anthropic_finish(reply: Streams, asked: JsonMap) -> Iterator[str]:
    yield _event("content_block_stop", index=int(bool(reply.thinking)))
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


def _sent(reply: Streams) -> tuple[list[str], list[str]]:
    """The pieces that are sent, of the thinking and of the text."""
    thinking, text = _pieces(reply.thinking, reply.pieces), _pieces(reply.text, reply.pieces)
    if reply.after is None:
        return thinking, text
    return thinking[: reply.after], text[: max(reply.after - len(thinking), 0)]


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
