"""A limit in seconds for a call that cannot be interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def call_with_deadline(seconds: float, function: Callable[[], T]) -> T:
    """Return what the function returns. Raise `TimeoutError` after `seconds`.

    HTTP clients limit each read, not the whole response, so a server that sends single bytes could block the
    caller indefinitely. The function runs in a daemon thread, which ends by itself if it is late.
    """
    outcome: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    context = copy_context()

    def run() -> None:
        try:
            outcome.put((context.run(function), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=run, name="agentsession-ask", daemon=True).start()
    try:
        value, error = outcome.get(timeout=min(seconds, threading.TIMEOUT_MAX))
    except Empty:
        raise TimeoutError from None
    try:
        if error is not None:
            raise error
        return value  # type: ignore[return-value]
    finally:
        del error  # its traceback holds this frame
