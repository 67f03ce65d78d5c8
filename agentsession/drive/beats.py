"""The heartbeat of the async driver: a task for each question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentsession.drive.crossing import on_the_store, unbroken
from agentsession.drive.heartbeat import PER_LEASE, SOONER, beat_of, own_context
from agentsession.drive.turn_log import warn_about
from agentsession.store.stored import StoredSession
from agentsession.turn.thrown import ClaimGone


def keep_alive_on_the_loop(
    session: StoredSession | None, partial: Callable[[], str], gone: Callable[[ClaimGone], None]
) -> asyncio.Task[None] | None:
    """Extend the lease of the session's claim until the task is cancelled; None where there is nothing to
    do."""
    beat = beat_of(session, partial)
    if session is None or beat is None:
        return None
    return asyncio.create_task(_beat(session, beat, gone), context=own_context())


async def _beat(session: StoredSession, beat: Callable[[], bool], gone: Callable[[ClaimGone], None]) -> None:
    every = session.options.lease / PER_LEASE
    pause = every
    while True:
        await asyncio.sleep(pause)
        pause = every
        try:
            held = await unbroken(on_the_store(session, beat))
        except Exception as error:
            warn_about(session, "a lease could not be extended", error)
            pause = every / SOONER
            continue
        if not held:
            gone(ClaimGone())
            return
