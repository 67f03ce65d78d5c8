"""Tells interruptions from errors of the code that they interrupt.

A signal handler may raise any `Exception` in the main thread, at any line: Celery raises
`SoftTimeLimitExceeded`, RQ raises `JobTimeoutException`. In a provider or a tool, its type alone would make
it an error of that code. Its traceback shows that a signal handler raised it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from types import CodeType
from typing import Any


def is_interruption(error: BaseException) -> bool:
    """Return whether the error is Ctrl-C, an exit, a cancellation, or was raised by a signal handler."""
    return not isinstance(error, Exception) or is_raised_by_a_signal_handler(error)


def is_raised_by_a_signal_handler(error: BaseException) -> bool:
    trace = error.__traceback__
    handlers = {*_handlers()} if trace is not None else set()
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _handlers() -> Iterator[CodeType]:
    """Yield the code of the signal handlers that are installed now."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, partial):
            handler = handler.func
        if not callable(handler):
            continue
        code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
        if isinstance(code, CodeType):
            yield code
