"""The provider that asks every hosted model through litellm, which is imported when it is needed."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Generator
from contextlib import aclosing, closing
from typing import Any

from agentsession._options import Client
from agentsession._turn.model_io import Delta, Reply
from agentsession._workers import PREPARING
from agentsession.provider.litellm import decompression, process_state, wire
from agentsession.provider.litellm.failures import refuse_unusable
from agentsession.provider.litellm.retry import RetryBudget, call_with_deadline, timeout_error
from agentsession.provider.litellm.stream import Abortable, Aborting, StreamedReply
from agentsession.provider.protocol import Request

LOCAL_DATA = ("LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS")
"""Variables with which litellm reads its bundled lists. Without them it fetches the lists and waits."""

TIMEOUT_GRACE = 0.5
"""Seconds by which the HTTP client's own time-out, which says more, comes first."""


class LiteLLM:
    """Asks in four ways. A stream has no total time limit here: the driver that reads it applies one."""

    def prepare(self) -> None:
        """Import litellm, which takes seconds, before a lease runs."""
        _litellm()

    def check_client(self, client: Client) -> None:
        """Refuse a client whose provider is unknown or whose key is missing, where that is certain."""
        refuse_unusable(_litellm(), client)

    def ask(self, request: Request) -> Reply:
        try:
            return call_with_deadline(request.timeout + TIMEOUT_GRACE, lambda: self._ask(request))
        except TimeoutError as error:
            raise timeout_error(request) from error

    def _ask(self, request: Request) -> Reply:
        litellm = _litellm()
        decompression.limit_responses()
        attempts = RetryBudget(litellm, request)
        while True:
            try:
                response = litellm.completion(**wire.arguments(litellm, request, attempts.timeout))
                break
            except Exception as error:
                pause = attempts.pause(error)
            time.sleep(pause)
        return wire.reply(litellm, request, response)

    async def aask(self, request: Request) -> Reply:
        litellm = await _ready()
        try:
            async with asyncio.timeout(request.timeout + TIMEOUT_GRACE):
                return await self._aask(litellm, request)
        except TimeoutError as error:
            raise timeout_error(request) from error

    async def _aask(self, litellm: Any, request: Request) -> Reply:
        decompression.limit_responses()
        attempts = RetryBudget(litellm, request)
        while True:
            try:
                response = await litellm.acompletion(**wire.arguments(litellm, request, attempts.timeout))
                break
            except Exception as error:
                pause = attempts.pause(error)
            await asyncio.sleep(pause)
        return wire.reply(litellm, request, response)

    def stream(self, request: Request) -> Abortable:
        return Abortable(lambda aborting: self._stream(request, aborting))

    def _stream(self, request: Request, aborting: Aborting) -> Generator[Delta | Reply]:
        litellm = _litellm()
        decompression.limit_responses()
        attempts = RetryBudget(litellm, request)
        while True:
            try:
                stream = litellm.completion(**wire.streaming(litellm, request, attempts.timeout))
                streamed = StreamedReply(litellm, request, stream)
                aborting.reads(streamed.source)
                with closing(streamed.pieces()) as pieces:
                    for piece in pieces:
                        attempts.has_output = True
                        yield piece
                return
            except Exception as error:
                pause = attempts.pause(error)
            aborting.pause(pause)

    async def astream(self, request: Request) -> AsyncIterator[Delta | Reply]:
        litellm = await _ready()
        decompression.limit_responses()
        attempts = RetryBudget(litellm, request)
        while True:
            try:
                stream = await litellm.acompletion(**_on_this_loop(litellm, request, attempts.timeout))
                async with aclosing(StreamedReply(litellm, request, stream).apieces()) as pieces:
                    async for piece in pieces:
                        attempts.has_output = True
                        yield piece
                return
            except Exception as error:
                pause = attempts.pause(error)
            await asyncio.sleep(pause)


def _litellm() -> Any:
    """Return the module. Its price list comes from the package, unless the user has chosen the network."""
    with process_state.importing:
        for name in LOCAL_DATA:
            os.environ.setdefault(name, "True")
        import litellm

        litellm.suppress_debug_info = True
        decompression.install()
        process_state.renew_locks()
    return litellm


async def _ready() -> Any:
    """Return the module, imported in a thread, whose clients end with the running loop."""
    litellm = await PREPARING.run(_litellm)
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

    await process_state.close_with_the_loop(litellm.in_memory_llm_clients_cache, GLOBAL_LOGGING_WORKER)
    return litellm


def _on_this_loop(litellm: Any, request: Request, limit: float) -> dict[str, Any]:
    """Return the arguments of a stream, with a client of the running loop where litellm would share one.

    Through a shared client, a second loop takes the connections of the first.
    """
    arguments = wire.streaming(litellm, request, limit)
    if request.client.provider not in ("anthropic", "gemini"):
        return arguments
    from litellm.llms.custom_httpx.http_handler import get_async_httpx_client

    return {"client": get_async_httpx_client(llm_provider=request.client.provider), **arguments}
