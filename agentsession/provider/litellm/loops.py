"""Closes the asynchronous clients of litellm when their event loop ends. litellm keeps them indefinitely."""

from __future__ import annotations

import inspect
import os
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncGenerator
from typing import Any

from agentsession.provider.litellm.forks import keep

_at_the_end: dict[AbstractEventLoop, AsyncGenerator[None]] = {}


async def close_with_the_loop(clients: Any, worker: Any) -> None:
    """Have `loop.shutdown_asyncgens()`, which `asyncio.run` calls, close the clients of the running loop.

    `clients` is litellm's cache. `worker` runs the user's callbacks.
    """
    loop = get_running_loop()
    if loop in _at_the_end:
        return
    for other in [*_at_the_end]:
        if other.is_closed():
            _at_the_end.pop(other, None)
    _at_the_end[loop] = _closing(loop, clients, worker)
    await anext(_at_the_end[loop])


async def _closing(loop: AbstractEventLoop, clients: Any, worker: Any) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        _at_the_end.pop(loop, None)
        if worker._bound_loop is loop:
            await worker.clear_queue()
        await _close(clients)


async def _close(clients: Any) -> None:
    """litellm's own function closes the clients of all loops, and leaves them in the cache, where a later
    loop with the same id would find them closed. The cache appends a mark of the running loop to its keys."""
    mark = clients.update_cache_key_with_event_loop("")
    for key in [key for key in [*clients.cache_dict] if key.endswith(mark)]:
        client = clients.cache_dict.get(key)
        clients.delete_cache(key)
        for name in ("aclose", "close"):
            if close := getattr(client, name, None):
                closed = close()
                if inspect.isawaitable(closed):
                    await closed


def _forget() -> None:
    """A forked child runs none of its parent's loops."""
    keep(dict(_at_the_end))
    _at_the_end.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
