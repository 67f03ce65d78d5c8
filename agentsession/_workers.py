"""Worker threads for the blocking work of an event loop.

An application can fill asyncio's default executor. Then no statement and no heartbeat would run, and a living
process would lose its leases. Each kind of work has its own threads, so that no kind waits for another.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

Job: TypeAlias = tuple["Future[Any]", Callable[[], Any]]


class Workers:
    """At most `most` daemon threads. Each starts when work arrives, and then stays.

    `concurrent.futures.ThreadPoolExecutor` joins its threads when the interpreter exits, so that a database
    that does not answer would keep the process from ending. In a forked child it has no threads.
    """

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.most = most
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """Start anew, also in a forked child: it has no threads, and its copies of the locks may be held."""
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._starting = threading.Lock()
        self._started = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Return what the work returns, or raise what it raises, without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue the work. It runs in a copy of the caller's context.

        Raises `RuntimeError` if no worker runs and none can start. The work is then not done.
        """
        future: Future[T] = Future()
        self._jobs.put((future, partial(copy_context().run, work)))
        if not self._idle.acquire(blocking=False):
            try:
                self._start_a_worker()
            except RuntimeError:
                future.cancel()
                raise
        return future

    def _start_a_worker(self) -> None:
        """Start a worker. If the system has no thread left, the running workers do the work."""
        with self._starting:
            if self._started == self.most:
                return
            worker = threading.Thread(
                target=_work, args=(self._jobs, self._idle), name=self.name, daemon=True
            )
            try:
                worker.start()
            except RuntimeError:
                if self._started == 0:
                    raise
            else:
                self._started += 1


def _work(jobs: SimpleQueue[Job], idle: threading.Semaphore) -> None:
    while True:
        try:
            future, work = jobs.get_nowait()
        except Empty:
            idle.release()
            future, work = jobs.get()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
        del future, work  # an idle thread must not keep a result, or a session, alive


MAX_WORKERS = min(32, (os.cpu_count() or 1) + 4)
"""The size of asyncio's default executor. Each worker may open a database connection."""

STATEMENTS = Workers("agentsession-store", MAX_WORKERS)
"""Runs statements of the async driver, which are short."""

BEATS = Workers("agentsession-beat", 8)
"""Runs heartbeats. A beat is one short statement."""

PREPARING = Workers("agentsession-prepare", MAX_WORKERS)
"""Prepares providers: imports that take seconds, and a provider's own `prepare`, which may block."""
