"""The events of a sync stream, and the turn that goes on without a reader.

A driver is a generator: its turn stands still while the reader does not ask for the next event. A client that
stops reading, and does not hang up, would keep its turn running, its lease extended and its session busy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextvars import copy_context
from functools import partial

from agentsession._drive.backlog import Backlog
from agentsession._drive.heartbeat import regularly
from agentsession._drive.performer import Performer
from agentsession._drive.pulse import Ping
from agentsession._drive.turn_log import warn_about
from agentsession._turn.effects import Outcome
from agentsession.events import Event

PATIENCE = 10.0
"""Seconds for which a turn waits for a reader who does not ask for its next event."""


def may_run_on(perform: Performer) -> bool:
    """Return whether the turn may end without its reader.

    Nobody waits for a turn that is not stored. In the caller's transaction, and on `:memory:`, only the
    caller's own thread or task can store its end.
    """
    session = perform.session
    return session is not None and not session.inside and not session.backend.has_one_connection


class Feed:
    """Runs the driver on the reader's thread.

    If the reader takes nothing for `PATIENCE` seconds after the model was asked, the driver runs to its end
    on a thread of the library. The reader then takes the events from a backlog.
    """

    def __init__(self, events: Generator[Event | Outcome, None, None], perform: Performer) -> None:
        self._events = events
        self._perform = perform
        self._context = copy_context()
        self._changed = threading.Condition()
        self._backlog = Backlog()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._is_stepping = self._is_closing = self._has_ended = False
        self._taken = time.monotonic()
        self._unwatch = self._watch()
        self.pulse = perform.pulse

    def __next__(self) -> Event | Outcome:
        with self._changed:
            while self._thread is not None and not self._backlog and not self._has_ended:
                if not self._changed.wait(self.pulse.every):
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
            self._unwatch()
            raise
        finally:
            self._taken = time.monotonic()
            self._is_stepping = False
        if isinstance(event, Outcome):
            self._unwatch()
        return event

    def close(self) -> None:
        """End the turn where it is."""
        thread = self._stop()
        if thread is None:
            self._events.close()
        while thread is not None and thread.is_alive():
            self._perform.interrupt()
            thread.join(1.0)
        self._error = None
        self._backlog.clear()

    def drop(self) -> None:
        """Close without waiting for another thread: the garbage collector calls this on any thread, which may
        hold any lock."""
        if self._stop() is None:
            self._events.close()
        else:
            self._perform.interrupt()

    def _stop(self) -> threading.Thread | None:
        """Let no thread begin to run the turn on; returns the one that has begun."""
        self._unwatch()
        with self._changed:
            self._is_closing = True
            return self._thread

    def _watch(self) -> Callable[[], None]:
        session = self._perform.session
        if session is None or not may_run_on(self._perform):
            return lambda: None
        failed = partial(warn_about, session, "a turn whose stream is not read could not go on")
        return regularly(self._check, failed, PATIENCE / 2)

    def _check(self) -> None:
        with self._changed:
            is_ours = self._is_stepping or self._is_closing or self._thread is not None
            is_patient = time.monotonic() - self._taken < PATIENCE
            if is_ours or is_patient or not self._perform.has_asked:
                return
            work = partial(self._context.run, self._run_on)
            thread = threading.Thread(target=work, name="agentsession-unread", daemon=True)
            thread.start()
            self._thread = thread
        self._unwatch()

    def _run_on(self) -> None:
        error: BaseException | None = None
        try:
            while not self._is_closing:
                event = next(self._events)
                if isinstance(event, Ping):
                    continue  # the reader waits for the backlog, and makes its own
                with self._changed:
                    self._backlog.add(event)
                    self._changed.notify_all()
            self._events.close()
        except StopIteration:
            pass
        except BaseException as failure:
            error = failure
        with self._changed:
            self._error, self._has_ended = error, True
            self._changed.notify_all()
