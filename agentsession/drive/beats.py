"""The heartbeat of the async driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from agentsession.drive.crossing import on_the_store, unbroken
from agentsession.drive.heartbeat import PER_LEASE, SOONER, beat_of, keep_alive, own_context
from agentsession.drive.turn_log import warn_about
from agentsession.store.connection import is_async
from agentsession.store.stored import StoredSession
from agentsession.turn.thrown import ClaimGone


class LoopBeats:
    """Extends the lease of the session's claim until `stop()`.

    The thread of the sync driver does it, which also beats while the application blocks the event loop. Only
    the connections of an asynchronous database belong to the loop: there a task beats.
    """

    def __init__(
        self, session: StoredSession | None, received: Callable[[], str], gone: Callable[[ClaimGone], object]
    ) -> None:
        loop = asyncio.get_running_loop()

        def gone_on_the_loop(claim_gone: ClaimGone) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(gone, claim_gone)

        self._drop = keep_alive(session, received, gone_on_the_loop)
        self._task: asyncio.Task[None] | None = None
        beat = beat_of(session, received)
        if session is not None and beat is not None and is_async(session.model):
            self._task = asyncio.create_task(_beat(session, beat, gone), context=own_context())

    async def stop(self) -> None:
        self._drop()
        if self._task is not None:
            self._task.cancel()
            await unbroken(asyncio.wait([self._task]))


async def _beat(
    session: StoredSession, beat: Callable[[], bool], gone: Callable[[ClaimGone], object]
) -> None:
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
