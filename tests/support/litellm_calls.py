"""The litellm provider asked in each of its four ways, without a session around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from agentsession._options import Client
from agentsession._schema import OutputSchema
from agentsession.provider import Delta, PromptMessage, Reply, Request
from agentsession.provider.litellm.adapter import LiteLLM
from tests.support.llm_server import LlmServer

KEY = "sk-test-5f0c/not+a=key"
GPT, CLAUDE = "openai:gpt-4o", "anthropic:claude-sonnet-4-5"
CLAUDE_BY_TOOL = "anthropic:claude-sonnet-4-20250514"

LITELLM = LiteLLM()

T = TypeVar("T")


def request_to(
    server: LlmServer, client: str = GPT, *, output: Any = None, options: Any = None, **limits: Any
) -> Request:
    base = server.openai if client.startswith("openai") else server.url
    parsed = Client.parse((client, {"api_base": base, "api_key": KEY, **(options or {})}))
    prompt = (PromptMessage("system", "Be terse."), PromptMessage("user", "Hi"))
    return Request(prompt, parsed, OutputSchema(output), **limits)


def plain(request: Request) -> Reply:
    return LITELLM.ask(request)


def plain_async(request: Request) -> Reply:
    return asyncio.run(LITELLM.aask(request))


def in_a_thread(function: Callable[[], T]) -> T:
    """As a driver reads a stream. In the main thread litellm would make an event loop that nobody closes."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()


def streamed(request: Request) -> list[Delta | Reply]:
    return in_a_thread(lambda: [*LITELLM.stream(request)])


def streamed_async(request: Request) -> list[Delta | Reply]:
    return asyncio.run(gathered(request))


async def gathered(request: Request) -> list[Delta | Reply]:
    return [piece async for piece in LITELLM.astream(request)]


PLAIN: tuple[Callable[[Request], Reply], ...] = (plain, plain_async)
STREAMS: tuple[Callable[[Request], list[Delta | Reply]], ...] = (streamed, streamed_async)


def whole(pieces: list[Delta | Reply]) -> Reply:
    """The reply at the end of the pieces, of which it consists."""
    *deltas, reply = pieces
    assert isinstance(reply, Reply)
    assert all(isinstance(delta, Delta) and delta for delta in deltas)
    assert "".join(delta.text for delta in deltas) == reply.text
    assert "".join(delta.thinking for delta in deltas) == reply.thinking
    return reply
