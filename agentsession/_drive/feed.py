"""The events of a stream, sync and async, and the turn that goes on without a reader.

A driver is a generator: its turn stands still while the reader does not ask for the next event. A client that
stops reading without closing its connection would keep its turn running, its lease extended and its session
busy. So after `READER_WAIT` seconds the library runs the driver to its end itself, and keeps the events in a
backlog: the session becomes free, and a reply that was paid for is stored.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import copy_context
from functools import partial
from typing import Any

from agentsession._drive.heartbeat import call_regularly
from agentsession._drive.performer import Performer
from agentsession._drive.stepper import shielded
from agentsession._drive.stream_events import Backlog, Ping
from agentsession._drive.turn_log import warn_about
from agentsession._turn.effects import Outcome
from agentsession.events import Event

READER_WAIT = 10.0
"""Seconds for which a turn waits for its reader to ask for the next event."""


def can_run_without_reader(performer: Performer) -> bool:
    """Return whether the turn may end without its reader.

    A turn that is not stored is of no use to anybody else. In the caller's transaction, and on `:memory:`,
    only the caller's own thread or task can store the end of the turn.
    """
    session = performer.session
    return (
        session is not None and not session.in_caller_transaction and not session.backend.has_one_connection
    )


class Feed:
    """Runs the driver on the reader's thread.

    If the reader takes nothing for `READER_WAIT` seconds after the first model call, the driver runs to its
    end on a thread of the library. The reader then takes the events from a backlog.
    """

    def __init__(self, events: Generator[Event | Outcome, None, None], performer: Performer) -> None:
        self._events = events
        self._performer = performer
        self._context = copy_context()
        self._condition = threading.Condition()
        self._backlog = Backlog()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._is_stepping = self._is_closing = self._has_ended = False
        self._last_taken = time.monotonic()
        self._stop_checks = self._start_checks()
        self.pulse = performer.pulse

    def __next__(self) -> Event | Outcome:
        with self._condition:
            while self._thread is not None and not self._backlog and not self._has_ended:
                if not self._condition.wait(self.pulse.every):
                    return Ping()
            if self._backlog:
                return self._backlog.take()
            if self._thread is not None:
                error, self._error = self._error, None
                raise error or StopIteration
            self._is_stepping = True
        try:
            event = next(self._events)
        except BaseException:
            self._stop_checks()
            raise
        finally:
            self._last_taken = time.monotonic()
            self._is_stepping = False
        if isinstance(event, Outcome):
            self._stop_checks()
        return event

    def close(self) -> None:
        """End the turn where it is."""
        thread = self._start_closing()
        if thread is None:
            self._events.close()
        while thread is not None and thread.is_alive():
            self._performer.interrupt()
            thread.join(1.0)
        self._error = None
        self._backlog.clear()

    def drop(self) -> None:
        """Close the feed without waiting for another thread.

        The garbage collector calls this on any thread, which may hold any lock.
        """
        if self._start_closing() is None:
            self._events.close()
        else:
            self._performer.interrupt()

    def _start_closing(self) -> threading.Thread | None:
        """Let no thread start to run the driver. Return the one that already does."""
        self._stop_checks()
        with self._condition:
            self._is_closing = True
            return self._thread

    def _start_checks(self) -> Callable[[], None]:
        session = self._performer.session
        if session is None or not can_run_without_reader(self._performer):
            return lambda: None
        on_error = partial(warn_about, session, "a turn whose stream is not read could not go on")
        return call_regularly(self._check, on_error, READER_WAIT / 2)

    def _check(self) -> None:
        with self._condition:
            is_busy = self._is_stepping or self._is_closing or self._thread is not None
            is_too_early = time.monotonic() - self._last_taken < READER_WAIT
            if is_busy or is_too_early or not self._performer.has_called:
                return
            work = partial(self._context.run, self._run_to_end)
            thread = threading.Thread(target=work, name="agentsession-unread", daemon=True)
            thread.start()
            self._thread = thread
        self._stop_checks()

    def _run_to_end(self) -> None:
        error: BaseException | None = None
        try:
            while not self._is_closing:
                event = next(self._events)
                if isinstance(event, Ping):
                    continue  # a reader that waits for the backlog makes its own pings
                with self._condition:
                    self._backlog.add(event)
                    self._condition.notify_all()
            self._events.close()
        except StopIteration:
            pass
        except BaseException as failure:
            error = failure
        with self._condition:
            self._error, self._has_ended = error, True
            self._condition.notify_all()


class AsyncFeed:
    """Runs the driver in the reader's task, or in a task of its own if the reader stops taking events."""

    def __init__(self, events: AsyncGenerator[Event | Outcome, None], performer: Performer) -> None:
        self._events: Any = events
        self._performer = performer
        self.pulse = performer.pulse
        self._loop = asyncio.get_running_loop()
        self._wakeup = asyncio.Event()
        self._backlog = Backlog()
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._is_stepping = self._is_closing = False
        self._last_taken = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        if can_run_without_reader(performer):
            self._timer = self._loop.call_later(READER_WAIT / 2, self._check)

    @property
    def has_ended(self) -> bool:
        return self._events.ag_frame is None

    async def __anext__(self) -> Event | Outcome:
        if self._task is not None:
            return await self._from_backlog(self._task)
        self._is_stepping = True
        try:
            event: Event | Outcome = await anext(self._events)
        except BaseException:
            self._stop_checks()
            raise
        finally:
            self._last_taken = time.monotonic()
            self._is_stepping = False
        if isinstance(event, Outcome):
            self._stop_checks()
        return event

    async def aclose(self) -> None:
        """End the turn where it is."""
        self._is_closing = True
        self._stop_checks()
        if self._task is not None:
            await shielded(self._interrupt(self._task))
        if self._is_stepping or not self._events.ag_running:  # else the end of the event loop closes it
            await self._events.aclose()
        self._error = None
        self._backlog.clear()

    async def _from_backlog(self, task: asyncio.Task[None]) -> Event | Outcome:
        while not self._backlog and not task.done():
            self._wakeup.clear()
            try:
                async with asyncio.timeout(self.pulse.every):
                    await self._wakeup.wait()
            except TimeoutError:
                return Ping()
            except asyncio.CancelledError:
                await self.aclose()
                raise
        if self._backlog:
            return self._backlog.take()
        error, self._error = self._error, None
        raise error or StopAsyncIteration

    async def _interrupt(self, task: asyncio.Task[None]) -> None:
        while not task.done():
            self._performer.interrupt()
            await asyncio.wait([task], timeout=1.0)

    def _stop_checks(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        is_too_early = self._is_stepping or time.monotonic() - self._last_taken < READER_WAIT
        if is_too_early or not self._performer.has_called:
            self._timer = self._loop.call_later(READER_WAIT / 2, self._check)
        else:
            self._task = self._loop.create_task(self._run_to_end())

    async def _run_to_end(self) -> None:
        try:
            while not self._is_closing:
                event = await anext(self._events)
                if not isinstance(event, Ping):  # a reader that waits for the backlog makes its own pings
                    self._backlog.add(event)
                    self._wakeup.set()
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError:
            raise
        except BaseException as failure:
            self._error = failure
        finally:
            self._loop.call_soon(self._wakeup.set)  # after this task is done
