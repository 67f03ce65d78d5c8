"""What a request must be before a route reads it: not sent by another site's page, and not too large."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from agentsession import info
from agentsession.contrib._web.problems import BODY_TOO_LARGE, NO_JSON_TYPE, Refused

ESCAPES = 3
"""JSON in ASCII takes up to three times the bytes of a non-ASCII text (`\\u8a9e` for the three of UTF-8)."""

MOST_DIGITS = 19
"""Python refuses to read a number of some thousand digits."""

SLACK = 64 * 1024
"""Bytes for the braces, the keys and the indentation of a small input."""


def body_limit(model: type[Any]) -> int:
    """The bytes of a request body above which it is refused unread."""
    return ESCAPES * info.session_options(model).max_input_bytes + SLACK


def check_request(method: str, header: Callable[[str], str | None], limit: int) -> None:
    """Raise `Refused` for a POST that another site's page can send with the user's cookies, and for a body
    whose declared length is beyond the limit.

    A browser asks the server before it sends JSON to another site, but sends a form, and an empty request
    of a script, at once. A form always has a content type.
    """
    length = header("Content-Length") or ""
    if length.isdecimal() and (len(length) > MOST_DIGITS or int(length) > limit):
        raise Refused(BODY_TOO_LARGE)
    if method != "POST":
        return
    type, has_body = header("Content-Type"), length not in ("", "0") or header("Transfer-Encoding")
    if not has_json_type(type) and (type is not None or has_body or _is_cross_origin(header)):
        raise Refused(NO_JSON_TYPE)


def has_json_type(content_type: str | None) -> bool:
    name = (content_type or "").partition(";")[0].strip().lower()
    return name == "application/json" or (name.startswith("application/") and name.endswith("+json"))


class LimitedBody(io.RawIOBase):
    """A WSGI request body that raises `Refused` instead of giving more bytes than the limit."""

    def __init__(self, body: Any, limit: int) -> None:
        self._body = body
        self._remaining = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._body.read(len(buffer))
        self._remaining -= len(part)
        if self._remaining < 0:
            raise Refused(BODY_TOO_LARGE)
        buffer[: len(part)] = part
        return len(part)


def _is_cross_origin(header: Callable[[str], str | None]) -> bool:
    """Whether a browser says so. Browsers send `Sec-Fetch-Site` over HTTPS and to localhost only, and
    `Origin` with every POST of a script; programs send neither."""
    site = header("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = header("Origin")
    return origin is not None and origin.partition("://")[2] != header("Host")
