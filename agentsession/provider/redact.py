"""Keys out of error messages, before anyone stores or prints them."""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from agentsession.tracebacks import without_locals

HIDDEN = "[hidden]"

_SECRET_NAME = re.compile(
    r"key|token|secret|passw|passphrase|auth(?!or)|authori[sz]|credential|cookie|signature", re.IGNORECASE
)
_LOOKS_SECRET = re.compile(
    r"\b(?:(?P<word>(?:sk|pk|rk|gsk|xai|ghp|hf)[-_][A-Za-z0-9*_.-]{6,})"
    r"|AIza[A-Za-z0-9*_-]{10,}|(?i:bearer) +[^\s'\",}]+)"
)
_DIGIT = re.compile(r"[0-9*]")


def redacted(text: str, options: Mapping[str, Any]) -> str:
    """The text without the secrets of the client's options and environment, or what looks like one."""
    found = {*_secrets(options), *_secrets(os.environ)}
    forms = {form for secret in found for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""))}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return _LOOKS_SECRET.sub(_hidden, text)


def _hidden(found: re.Match[str]) -> str:
    """A word without a digit is no key. This test is no lookahead of the pattern, because a lookahead reads
    the rest of the word again at each `sk-` in it."""
    word = found["word"]
    return word if word is not None and not _DIGIT.search(word) else HIDDEN


def scrub(error: BaseException, options: Mapping[str, Any]) -> BaseException | None:
    """The error itself, redacted in place with all that led to it; what stays unclean is left out.

    Its tracebacks keep their files and lines and lose their variables, among which is the key.
    """
    without_locals(error)
    return error if _scrub(error, options, set()) else None


def _scrub(error: BaseException, options: Mapping[str, Any], seen: set[int]) -> bool:
    """Redact an error and those it comes from; is it clean now?"""
    seen.add(id(error))
    error.args = tuple(_clean(value, options) for value in error.args)
    for name, value in list(vars(error).items()):
        vars(error)[name] = _clean(value, options)
    for link in ("__cause__", "__context__"):
        earlier: BaseException | None = getattr(error, link)
        if earlier is not None and id(earlier) not in seen and not _scrub(earlier, options, seen):
            setattr(error, link, None)
    text = "".join(traceback.format_exception_only(error))
    return redacted(text, options) == text


def _clean(value: Any, options: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return redacted(value, options)
    if type(value) is dict:
        return {key: _clean(item, options) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_clean(item, options) for item in value)
    return value


def _secrets(options: Any) -> Iterator[str]:
    """Texts under a name that tells of a secret, at any depth."""
    if isinstance(options, Mapping):
        for name, value in options.items():
            if isinstance(value, str):
                if len(value) >= 6 and _SECRET_NAME.search(str(name)):
                    yield value
            else:
                yield from _secrets(value)
    elif isinstance(options, (list, tuple)):
        for item in options:
            yield from _secrets(item)
