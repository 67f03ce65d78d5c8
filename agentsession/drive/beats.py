"""The heartbeat of the async driver: a task for each question."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from agentsession.drive.crossing import on_the_store, unbroken
from agentsession.drive.heartbeat import PER_LEASE, SOONER, beat_of, own_context
from agentsession.store.document import DocumentSession
from agentsession.turn.effects import ClaimGone

_log = logging.getLogger("agentsession")


@asynccontextmanager
async def beating(
    session: DocumentSession | None, partial: Callable[[], str], gone: Callable[[ClaimGone], None]
) -> AsyncIterator[None]:
    """Extend the lease of the session's claim for as long as the block runs."""
    beat = beat_of(session, partial)
    if session is None or beat is None:
        yield
        return
    task = asyncio.create_task(_beat(session, beat, gone), context=own_context())
    try:
        yield
    finally:
        task.cancel()
        await unbroken(asyncio.wait([task]))


async def _beat(
    session: DocumentSession, beat: Callable[[], bool], gone: Callable[[ClaimGone], None]
) -> None:
    every = session.options.lease / PER_LEASE
    pause = every
    while True:
        await asyncio.sleep(pause)
        pause = every
        try:
            held = await unbroken(on_the_store(session, beat))
        except Exception as error:
            _log.warning("a lease could not be extended: %s", type(error).__name__)
            pause = every / SOONER
            continue
        if not held:
            gone(ClaimGone())
            return
