"""From an event loop to a store: where its statements run, and how they are never broken off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from agentsession._store.backend import Backend
from agentsession._turn.effects import WriteUnconfirmed
from agentsession._workers import STATEMENTS

T = TypeVar("T")


class Stored(Protocol):
    """A session, or a list of them: as in `StoredSession`."""

    backend: Backend
    inside: bool


async def run_on_store(session: Stored, work: Callable[[], T]) -> T:
    """Do the work where the session's database can be reached: on Peewee's greenlets, if it is an async one,
    else in a worker thread. A caller's transaction, and `:memory:`, are where the caller is."""
    backend = session.backend
    if backend.is_async:
        return await backend.database.run(work)  # type: ignore[no-any-return]
    is_there = session.inside or backend.has_one_connection
    return work() if is_there else await STATEMENTS.run(work)


async def shielded(
    work: Coroutine[Any, Any, T], cancelled: Callable[[BaseException], object] | None = None
) -> T:
    """What the work gives, waited for to its end however often the caller is cancelled meanwhile: anyio
    cancels again at every `await`. `cancelled` is told of it; without, the cancellation goes on after the
    work."""
    task = asyncio.ensure_future(work)
    left: asyncio.CancelledError | None = None
    while True:
        try:
            value = await asyncio.shield(task)
        except asyncio.CancelledError as cancel:
            left = cancel
            if cancelled is not None:
                cancelled(cancel)
            if task.cancelled():  # the event loop is shutting down
                raise (cancel if cancelled is None else WriteUnconfirmed()) from cancel
        else:
            if left is not None and cancelled is None:
                raise left
            return value
