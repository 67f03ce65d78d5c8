"""The attempts and the seconds that one request may take, and the error that the last attempt raises."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from agentsession.errors import ProviderCallError
from agentsession.provider.litellm.decompression import TOO_LARGE, was_too_large
from agentsession.provider.litellm.failures import PERMANENT, RAISE_TIMEOUT, failure_kind, fix_for
from agentsession.provider.protocol import Request
from agentsession.provider.redaction import redacted, scrub

T = TypeVar("T")

RETRIED_STATUS = (408, 429)
FIRST_PAUSE = 0.5
"""Seconds before the first retry; doubled for each further one, with jitter."""


class RetryBudget:
    """The calls that one request may take.

    `timeout` is in seconds, for the next call. After a piece of the reply has arrived (`has_output`), the
    request is not retried.
    """

    def __init__(self, litellm: Any, request: Request) -> None:
        self._litellm = litellm
        self.timeout = request.timeout
        self.has_output = False
        self._request = request
        self._count = 0
        self._deadline = time.monotonic() + request.timeout

    def pause(self, error: Exception) -> float:
        """Return the seconds to wait before the next call. Raise `ProviderCallError` if none may follow."""
        pause = _pause(error, self._count)
        remaining = self._deadline - time.monotonic() - pause
        is_last = self.has_output or self._count == self._request.retries
        if is_last or remaining <= 0 or not _is_passing(error):
            failed = _provider_error(error, self._request, self._litellm)
            raise failed from scrub(error, self._request.client.options, self._request.prompt)
        self._count += 1
        self.timeout = _in_steps(remaining)
        return pause


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


def timeout_error(request: Request) -> ProviderCallError:
    """Return the error of a request that takes longer than its `timeout`."""
    found = f"{request.client.id}: no complete reply within {request.timeout:g} s"
    return ProviderCallError(found, status=408, kind="timeout", fix=RAISE_TIMEOUT)


def _in_steps(seconds: float) -> float:
    """Return the seconds, rounded down.

    litellm keeps one HTTP client with open connections for each timeout that it receives.
    """
    return float(int(seconds)) if seconds >= 1 else max(round(seconds, 1), 0.1)


def _is_passing(error: Exception) -> bool:
    """Return whether another attempt may succeed."""
    if failure_kind(error) in PERMANENT or was_too_large(error):
        return False
    if isinstance(error, ConnectionError):
        return True
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and (status in RETRIED_STATUS or status >= 500)


def _pause(error: Exception, attempt: int) -> float:
    """Return the seconds to wait: those that the provider asks for, or else more each time."""
    requested = max(_requested_pauses(error), default=0.0)
    doubled: float = FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.0)
    return requested if requested > 0 else doubled


def _requested_pauses(error: Exception) -> Iterator[float]:
    """Yield the seconds of each `Retry-After` header, which has seconds or a date.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    for headers in (
        getattr(error, "litellm_response_headers", None),
        getattr(getattr(error, "response", None), "headers", None),
    ):
        value = str((headers or {}).get("retry-after", ""))
        try:
            seconds = float(value)
        except ValueError:
            seconds = _seconds_until(value)
        if not math.isnan(seconds):
            yield seconds


def _seconds_until(date: str) -> float:
    try:
        return (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return math.nan


def _provider_error(error: Exception, request: Request, litellm: Any) -> ProviderCallError:
    client, kind = request.client, failure_kind(error)
    text = redacted(_message(error), client.options, request.prompt)
    return ProviderCallError(
        f"{client.id}: {type(error).__name__}: {text}",
        status=getattr(error, "status_code", None),
        kind=kind,
        fix=fix_for(kind, client, litellm),
    )


def _message(error: Exception) -> str:
    """Return the error's message without the traceback and the names that litellm puts into some."""
    if was_too_large(error):
        return TOO_LARGE
    text = str(getattr(error, "message", None) or error).split("Traceback (most recent call last)")[0]
    name = type(error).__name__
    return text.removeprefix(f"litellm.{name}: ").removeprefix(f"{name}: ").strip()
