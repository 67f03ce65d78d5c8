"""When a failed call is made again, and as what its last error is raised."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from agentsession.errors import ProviderCallError
from agentsession.provider.litellm.decompression import TOO_LARGE, was_too_large
from agentsession.provider.litellm.failures import PERMANENT, RAISE_TIMEOUT, failure_kind, fix_for
from agentsession.provider.protocol import Request
from agentsession.provider.redaction import redacted, scrub

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
        """Seconds to wait before the next call; raises what the error means if there is none."""
        pause = _pause(error, self._count)
        left = self._deadline - time.monotonic() - pause
        if self.has_output or self._count == self._request.retries or left <= 0 or not _is_passing(error):
            failed = _provider_error(error, self._request, self._litellm)
            raise failed from scrub(error, self._request.client.options, self._request.prompt)
        self._count += 1
        self.timeout = _in_steps(left)
        return pause


def timeout_error(request: Request) -> ProviderCallError:
    found = f"{request.client.id}: no whole answer within {request.timeout:g} s"
    return ProviderCallError(found, status=408, kind="timeout", fix=RAISE_TIMEOUT)


def _in_steps(seconds: float) -> float:
    """litellm keeps one HTTP client with its open connections for each timeout that it was given."""
    return float(int(seconds)) if seconds >= 1 else max(round(seconds, 1), 0.1)


def _is_passing(error: Exception) -> bool:
    if failure_kind(error) in PERMANENT or was_too_large(error):
        return False
    if isinstance(error, ConnectionError):
        return True
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and (status in RETRIED_STATUS or status >= 500)


def _pause(error: Exception, attempt: int) -> float:
    """Seconds to wait: what the provider asked for, or more each time."""
    asked = max(_asked_pauses(error), default=0.0)
    doubled: float = FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.0)
    return asked if asked > 0 else doubled


def _asked_pauses(error: Exception) -> Iterator[float]:
    """https://www.rfc-editor.org/rfc/rfc9110#name-retry-after: seconds, or a date."""
    for headers in (
        getattr(error, "litellm_response_headers", None),
        getattr(getattr(error, "response", None), "headers", None),
    ):
        asked = str((headers or {}).get("retry-after", ""))
        try:
            seconds = float(asked)
        except ValueError:
            seconds = _until(asked)
        if not math.isnan(seconds):
            yield seconds


def _until(date: str) -> float:
    try:
        return (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return math.nan


def _provider_error(error: Exception, request: Request, litellm: Any) -> ProviderCallError:
    client, kind = request.client, failure_kind(error)
    text = redacted(_found(error), client.options, request.prompt)
    return ProviderCallError(
        f"{client.id}: {type(error).__name__}: {text}",
        status=getattr(error, "status_code", None),
        kind=kind,
        fix=fix_for(kind, client, litellm),
    )


def _found(error: Exception) -> str:
    """What the error says, without the traceback and the names that litellm puts into some."""
    if was_too_large(error):
        return TOO_LARGE
    text = str(getattr(error, "message", None) or error).split("Traceback (most recent call last)")[0]
    name = type(error).__name__
    return text.removeprefix(f"litellm.{name}: ").removeprefix(f"{name}: ").strip()
