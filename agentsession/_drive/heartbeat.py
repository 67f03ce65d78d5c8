"""The heartbeat: extends the lease of a turn while its model or its tools take long.

One daemon thread for each process serves all turns of both drivers, and gives each beat to a worker. The
first turn that needs the thread starts it, and a forked child starts its own. It does not depend on an event
loop, which the application may block, nor on asyncio's executor, which the application may fill: then a
living process would lose its leases.
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
from agentsession._drive.stepper import shielded
from agentsession._drive.turn_log import warn_about
from agentsession._store.declared import run_on_store
from agentsession._store.session_store import StoredSession
from agentsession._turn.effects import ClaimLost
from agentsession._workers import BEATS

BEATS_PER_LEASE = 3
"""Beats in the time of one lease, so that two of them may fail."""

RETRY_FACTOR = 4
"""How much sooner the next beat comes after one that failed."""


def keep_alive(
    session: StoredSession | None, partial_text: Callable[[], str], on_claim_lost: Callable[[ClaimLost], None]
) -> Callable[[], None]:
    """Extend the lease of the session's claim until the returned function is called.

    `on_claim_lost` is called on another thread. The connections of an asynchronous database belong to its
    event loop: for its sessions this does nothing.
    """
    extend = _extension(session, partial_text)
    if session is None or extend is None or session.backend.is_async:
        return lambda: None
    every = session.options.lease / BEATS_PER_LEASE
    on_error = partial(warn_about, session, "a lease could not be extended")
    return _start(extend, on_claim_lost, on_error, every)


class LoopBeats:
    """Extends the lease of the session's claim until `stop()`, for the async driver.

    The thread does it, which also beats while the application blocks the event loop. Only the connections of
    an asynchronous database belong to the loop: there a task does it.
    """

    def __init__(
        self,
        session: StoredSession | None,
        partial_text: Callable[[], str],
        on_claim_lost: Callable[[ClaimLost], object],
    ) -> None:
        loop = asyncio.get_running_loop()

        def call_on_the_loop(error: ClaimLost) -> None:
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(on_claim_lost, error)

        self._stop_thread_beats = keep_alive(session, partial_text, call_on_the_loop)
        self._task: asyncio.Task[None] | None = None
        extend = _extension(session, partial_text)
        if session is not None and extend is not None and session.backend.is_async:
            beats = _beat_on_the_loop(session, extend, on_claim_lost)
            self._task = asyncio.create_task(beats, context=_clock_context())

    async def stop(self) -> None:
        self._stop_thread_beats()
        if self._task is not None:
            self._task.cancel()
            await shielded(asyncio.wait([self._task]))


def call_regularly(
    function: Callable[[], None], on_error: Callable[[Exception], object], every: float
) -> Callable[[], None]:
    """Call a short function every `every` seconds until the returned function is called."""

    def call() -> bool:
        function()
        return True

    return _start(call, lambda _: None, on_error, every)


def _extension(session: StoredSession | None, partial_text: Callable[[], str]) -> Callable[[], bool] | None:
    """Return a function that extends the lease and stores the partial text, or None if nothing needs it.

    This holds without a claim, and if no other connection can see the row (`:memory:`, an open
    transaction), so that no other process can take the claim over.
    """
    claim = session.turn.claim if session is not None and session.turn is not None else None
    if session is None or claim is None:
        return None
    if session.in_caller_transaction or session.backend.has_one_connection:
        return None
    extend, lease = session.extend, session.options.lease
    return lambda: extend(claim, lease, partial_text())


def _clock_context() -> Context:
    """Return a context with nothing but the caller's fake clock.

    Some applications keep their connection in a context variable, which belongs to the caller.
    """
    context = Context()
    context.run(_clock.fake.set, _clock.fake.get())
    return context


@dataclass(eq=False)
class Beat:
    """What is called regularly for one turn, how often, and when next.

    `extend` returns whether the claim is still held. If not, `on_claim_lost` is called. `on_error` is called
    with an error that `extend` raises.
    """

    extend: Callable[[], bool]
    on_claim_lost: Callable[[ClaimLost], None]
    on_error: Callable[[Exception], object]
    every: float
    next: float
    context: Context = field(default_factory=_clock_context)


class Heart:
    """The thread that calls the beats when they are due."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.beats: set[Beat] = set()
        self.wake_at = 0.0
        self.thread: threading.Thread | None = None

    def add(self, beat: Beat) -> None:
        with self.condition:
            self.beats.add(beat)
            if self.thread is None or not self.thread.is_alive():
                self._start_thread(beat)
            elif beat.next < self.wake_at:
                self.wake_at = beat.next
                self.condition.notify()

    def remove(self, beat: Beat) -> None:
        with self.condition:
            self.beats.discard(beat)

    def _start_thread(self, beat: Beat) -> None:
        """Start the thread. If the system has none left, the next beat that is added starts it for both."""
        thread = threading.Thread(target=self._run, name="agentsession-heartbeat", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            beat.on_error(error)
        else:
            self.thread = thread

    def _run(self) -> None:
        while True:
            for beat in self._wait_for_due():
                try:
                    BEATS.submit(partial(self._call, beat))
                except RuntimeError:  # no worker can start: this thread waits for the database itself
                    self._call(beat)

    def _wait_for_due(self) -> list[Beat]:
        with self.condition:
            while True:
                now = time.monotonic()
                due = [beat for beat in self.beats if beat.next <= now]
                if due:
                    for beat in due:
                        beat.next = math.inf
                    return due
                # Without beats the time stays as it is, so that the next one to be added need not notify.
                if self.beats or self.wake_at <= now:
                    self.wake_at = min([now + 60, *(beat.next for beat in self.beats)])
                self.condition.wait(self.wake_at - now)

    def _call(self, beat: Beat) -> None:
        """Call one beat, on a worker, so that a slow database does not hold up the heartbeat's thread.

        After an error the claim counts as held, and the next beat comes sooner.
        """
        is_held, pause = True, beat.every
        try:
            is_held = beat.context.run(beat.extend)
        except Exception as error:
            beat.on_error(error)
            pause /= RETRY_FACTOR
        with self.condition:
            beat.next = time.monotonic() + pause
            is_wanted = beat in self.beats
            if is_held:
                self.condition.notify()
            else:
                self.beats.discard(beat)
        if not is_held and is_wanted:  # the driver of a removed beat may have ended the claim itself
            beat.on_claim_lost(ClaimLost())


_heart = Heart()


def _renew_heart() -> None:
    """Forget the thread of the parent process, which a forked child does not have."""
    global _heart
    _heart = Heart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_heart)


def _start(
    extend: Callable[[], bool],
    on_claim_lost: Callable[[ClaimLost], None],
    on_error: Callable[[Exception], object],
    every: float,
) -> Callable[[], None]:
    """Add a beat to the heart. Return the function that removes it."""
    heart, beat = _heart, Beat(extend, on_claim_lost, on_error, every, time.monotonic() + every)
    heart.add(beat)
    return lambda: heart.remove(beat)


async def _beat_on_the_loop(
    session: StoredSession, extend: Callable[[], bool], on_claim_lost: Callable[[ClaimLost], object]
) -> None:
    every = session.options.lease / BEATS_PER_LEASE
    pause = every
    while True:
        await asyncio.sleep(pause)
        pause = every
        try:
            is_held = await shielded(run_on_store(session, extend))
        except Exception as error:
            warn_about(session, "a lease could not be extended", error)
            pause = every / RETRY_FACTOR
            continue
        if not is_held:
            on_claim_lost(ClaimLost())
            return
