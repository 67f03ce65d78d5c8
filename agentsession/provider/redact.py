"""Keys out of error messages, before anyone stores or prints them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "[hidden]"

_SECRET_NAME = re.compile(r"key|token|secret|password|authorization|credential", re.IGNORECASE)
_LOOKS_SECRET = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|AIza|ghp|hf)[-_][A-Za-z0-9*_.-]{6,}|(?i:bearer) +[^\s'\",}]+"
)


def redacted(text: str, options: Mapping[str, Any]) -> str:
    """The text without the secrets of the client's options and environment, or what looks like one."""
    for secret in sorted(_secrets(options), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _LOOKS_SECRET.sub(HIDDEN, text)


def scrub(error: BaseException, options: Mapping[str, Any]) -> BaseException:
    """The error itself, its texts and those of its causes redacted in place."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        current.args = tuple(redacted(a, options) if isinstance(a, str) else a for a in current.args)
        message = getattr(current, "message", None)
        if isinstance(message, str):
            current.message = redacted(message, options)  # type: ignore[attr-defined]
        current = current.__cause__ or current.__context__
    return error


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for source in (options, os.environ):
        for name, value in source.items():
            if isinstance(value, str) and len(value) >= 6 and _SECRET_NAME.search(name):
                yield value
    for value in options.values():
        if isinstance(value, Mapping):
            yield from _secrets(value)
