"""The heartbeat: while a model is asked for long, the lease of its turn is extended.

One daemon thread per process serves all calls of both drivers, and gives each beat to a worker. It is started
by the first call that needs it, and a forked child starts its own. It depends neither on an event loop, which
the application may block, nor on asyncio's executor, which the application may fill.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial

from agentsession import _clock
from agentsession._drive.async_bridge import run_on_store, shielded
from agentsession._drive.turn_log import warn_about
from agentsession._store.session_store import StoredSession
from agentsession._turn.effects import ClaimLost
from agentsession._workers import BEATS

PER_LEASE = 3
"""Beats in the time of one lease, so that two may fail."""

SOONER = 4
"""How much sooner a beat comes after one that failed."""


def own_context() -> Context:
    """The caller's fake clock, and nothing else: some applications keep their connection in a context."""
    context = Context()
    context.run(_clock.fake.set, _clock.fake.get())
    return context


@dataclass(eq=False)
class Call:
    """A call in progress: how its lease is extended, how often, and when next.

    `gone` is called where another has ended its claim, `failed` with the error of a beat.
    """

    extend: Callable[[], bool]
    gone: Callable[[ClaimLost], None]
    failed: Callable[[Exception], object]
    every: float
    due: float
    context: Context = field(default_factory=own_context)


class Heart:
    """The thread that beats for the calls in progress."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.calls: set[Call] = set()
        self.next = 0.0
        self.thread: threading.Thread | None = None

    def add(self, call: Call) -> None:
        with self.changed:
            self.calls.add(call)
            if self.thread is None or not self.thread.is_alive():
                self._start(call)
            elif call.due < self.next:
                self.next = call.due
                self.changed.notify()

    def drop(self, call: Call) -> None:
        with self.changed:
            self.calls.discard(call)

    def _start(self, call: Call) -> None:
        """If the system has no thread left, the call goes on. The next call starts the thread for both."""
        thread = threading.Thread(target=self._beat, name="agentsession-heartbeat", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            call.failed(error)
        else:
            self.thread = thread

    def _beat(self) -> None:
        while True:
            for call in self._due():
                try:
                    BEATS.submit(partial(self._extend, call))
                except RuntimeError:  # no worker can start, and this thread may wait for the database as well
                    self._extend(call)

    def _extend(self, call: Call) -> None:
        """One beat, on a worker: a database that makes it wait does not hold up the heartbeat's thread.

        One that could not be asked is asked again soon; until then the claim counts as held.
        """
        held, pause = True, call.every
        try:
            held = call.context.run(call.extend)
        except Exception as error:
            call.failed(error)
            pause /= SOONER
        with self.changed:
            call.due = time.monotonic() + pause
            is_wanted = call in self.calls
            if held:
                self.changed.notify()
            else:
                self.calls.discard(call)
        if not held and is_wanted:  # who was dropped meanwhile may have ended the claim itself
            call.gone(ClaimLost())

    def _due(self) -> list[Call]:
        with self.changed:
            while True:
                now = time.monotonic()
                due = [call for call in self.calls if call.due <= now]
                if due:
                    for call in due:
                        call.due = math.inf
                    return due
                if self.calls or self.next <= now:  # else it stays awake for the next call to come
                    self.next = min([now + 60, *(call.due for call in self.calls)])
                self.changed.wait(self.next - now)


_heart = Heart()


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _heart
    _heart = Heart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def beat_of(session: StoredSession | None, received: Callable[[], str]) -> Callable[[], bool] | None:
    """What extends the lease of the session's claim, and keeps the partial text. None where there is no
    claim, or no other connection can see the row (`:memory:`, an open transaction), so that nobody could take
    it over."""
    claim = session.turn.claim if session is not None and session.turn is not None else None
    if session is None or claim is None or session.inside or session.backend.has_one_connection:
        return None
    extend, lease = session.extend, session.options.lease
    return lambda: extend(claim, lease, received())


def keep_alive(
    session: StoredSession | None, received: Callable[[], str], gone: Callable[[ClaimLost], None]
) -> Callable[[], None]:
    """Extend the lease of the session's claim until the function that this returns is called.

    `gone` is called on another thread. The connections of an asynchronous database belong to its event loop:
    for its sessions this does nothing.
    """
    beat = beat_of(session, received)
    if session is None or beat is None or session.backend.is_async:
        return lambda: None
    every = session.options.lease / PER_LEASE
    failed = partial(warn_about, session, "a lease could not be extended")
    return _added(beat, gone, failed, every)


def regularly(
    check: Callable[[], None], failed: Callable[[Exception], object], every: float
) -> Callable[[], None]:
    """Call `check`, a short function, every `every` seconds until the returned function is called."""

    def checked() -> bool:
        check()
        return True

    return _added(checked, lambda _: None, failed, every)


def _added(
    extend: Callable[[], bool],
    gone: Callable[[ClaimLost], None],
    failed: Callable[[Exception], object],
    every: float,
) -> Callable[[], None]:
    heart, call = _heart, Call(extend, gone, failed, every, time.monotonic() + every)
    heart.add(call)
    return lambda: heart.drop(call)


class LoopBeats:
    """Extends the lease of the session's claim until `stop()`.

    The thread of the sync driver does it, which also beats while the application blocks the event loop. Only
    the connections of an asynchronous database belong to the loop: there a task beats.
    """

    def __init__(
        self, session: StoredSession | None, received: Callable[[], str], gone: Callable[[ClaimLost], object]
    ) -> None:
        loop = asyncio.get_running_loop()

        def gone_on_the_loop(claim_gone: ClaimLost) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(gone, claim_gone)

        self._drop = keep_alive(session, received, gone_on_the_loop)
        self._task: asyncio.Task[None] | None = None
        beat = beat_of(session, received)
        if session is not None and beat is not None and session.backend.is_async:
            self._task = asyncio.create_task(_beat(session, beat, gone), context=own_context())

    async def stop(self) -> None:
        self._drop()
        if self._task is not None:
            self._task.cancel()
            await shielded(asyncio.wait([self._task]))


async def _beat(
    session: StoredSession, beat: Callable[[], bool], gone: Callable[[ClaimLost], object]
) -> None:
    every = session.options.lease / PER_LEASE
    pause = every
    while True:
        await asyncio.sleep(pause)
        pause = every
        try:
            held = await shielded(run_on_store(session, beat))
        except Exception as error:
            warn_about(session, "a lease could not be extended", error)
            pause = every / SOONER
            continue
        if not held:
            gone(ClaimLost())
            return
