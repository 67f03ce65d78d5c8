"""The bridge from an event loop to the store, whose functions are synchronous."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from agentsession._store.declared import Backend
from agentsession._turn.effects import WriteUnconfirmed
from agentsession._workers import STATEMENTS

T = TypeVar("T")


class Stored(Protocol):
    """A session, or a list of them: as in `StoredSession`."""

    backend: Backend
    in_caller_transaction: bool


async def run_on_store(session: Stored, work: Callable[[], T]) -> T:
    """Run the work where the session's database can be reached, and return its result.

    On an asynchronous Peewee database that is one of Peewee's greenlets. A caller's transaction, and
    `:memory:`, can be reached on the caller's thread only. All other work runs in a worker thread.
    """
    backend = session.backend
    if backend.is_async:
        return await backend.database.run(work)  # type: ignore[no-any-return]
    is_here = session.in_caller_transaction or backend.has_one_connection
    return work() if is_here else await STATEMENTS.run(work)


async def shielded(
    work: Coroutine[Any, Any, T], on_cancel: Callable[[BaseException], object] | None = None
) -> T:
    """Run the work in a task of its own to its end, and return its result.

    If the caller's task is cancelled meanwhile, `on_cancel` is called. Without `on_cancel` the cancellation
    is raised after the work. It may come many times: anyio cancels again at every `await`.
    """
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while True:
        try:
            value = await asyncio.shield(task)
        except asyncio.CancelledError as cancelled:
            cancellation = cancelled
            if on_cancel is not None:
                on_cancel(cancelled)
            if task.cancelled():  # the event loop is shutting down
                raise (cancelled if on_cancel is None else WriteUnconfirmed()) from cancelled
        else:
            if cancellation is not None and on_cancel is None:
                raise cancellation
            return value
