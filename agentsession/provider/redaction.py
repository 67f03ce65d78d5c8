"""Error messages without keys and without texts of the prompt, as they may be stored and printed."""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from agentsession._safe_errors import chain, without_locals
from agentsession._turn.model_io import Prompt
from agentsession.provider.prompt_leaks import HIDDEN, RUN, without_prompt_text

MAX_LENGTH = 20_000
"""Characters of a provider's message that are kept."""

_SECRET_NAME = re.compile(
    r"key|token|secret|passw|passphrase|auth(?!or)|authori[sz]|credential|cookie|signature", re.IGNORECASE
)
_LOOKS_SECRET = re.compile(
    r"\b(?:(?P<word>(?:sk|pk|rk|gsk|xai|ghp|hf)[-_][A-Za-z0-9*_.-]{6,})"
    r"|AIza[A-Za-z0-9*_-]{10,}|(?i:bearer) +[^\s'\",}]+)"
)
_DIGIT = re.compile(r"[0-9*]")


def redacted(text: str, options: Mapping[str, Any], prompt: Prompt = ()) -> str:
    """Return the text without secrets of the client's options and the environment, and without likely ones.

    It has at most `MAX_LENGTH` characters, and repeats no message of the prompt.
    """
    return _cleaned({text}, options, prompt)[text]


def _cleaned(texts: Collection[str], options: Mapping[str, Any], prompt: Prompt) -> dict[str, str]:
    """Return for each text what may be shown of it."""
    found = {*_secrets(options), *_secrets(os.environ)}
    forms = {form for secret in found for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""))}
    keyless = {}
    for text in texts:
        keyless[text] = text
        for form in sorted(forms, key=len, reverse=True):
            keyless[text] = keyless[text].replace(form, HIDDEN)
        keyless[text] = _LOOKS_SECRET.sub(_hidden, keyless[text])
    cut = {text: cleaned[:MAX_LENGTH] for text, cleaned in keyless.items()}
    cleaned = without_prompt_text(cut.values(), prompt)
    return {
        text: cleaned[cut[text]] if cut[text] == keyless[text] else f"{cleaned[cut[text]][:-RUN]}… (cut)"
        for text in texts
    }  # the last characters before the cut may be the beginning of a run


def _hidden(found: re.Match[str]) -> str:
    """Return what is shown for a match: the word itself if it has no digit, since a key has one.

    The pattern does not check this by a lookahead: that would read the rest of a word again at each `sk-` in
    it, which takes quadratic time.
    """
    word = found["word"]
    return word if word is not None and not _DIGIT.search(word) else HIDDEN


def scrub(error: BaseException, options: Mapping[str, Any], prompt: Prompt = ()) -> BaseException | None:
    """Redact an error and all that led to it, in place. Return the error, or None if it stays unclean.

    Causes that stay unclean are removed. The tracebacks keep their files and lines, and lose their variables,
    among which is the key.
    """
    without_locals(error)
    links = [*chain(error)]
    cleaned = _cleaned({text for link in links for text in _texts([link.args, vars(link)])}, options, prompt)
    for link in links:
        link.args = tuple(_replaced(value, cleaned) for value in link.args)
        for name, value in list(vars(link).items()):
            vars(link)[name] = _replaced(value, cleaned)
    printed = {id(link): "".join(traceback.format_exception_only(link)) for link in links}
    cleaned = _cleaned({*printed.values()}, options, prompt)
    unclean = {key for key, text in printed.items() if cleaned[text] != text}
    for link in links:
        for name in ("__cause__", "__context__"):
            if id(getattr(link, name)) in unclean:
                setattr(link, name, None)
    return None if id(error) in unclean else error


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a plain value."""
    if isinstance(value, str):
        yield value
    elif type(value) is dict:
        for item in value.values():
            yield from _texts(item)
    elif type(value) in (list, tuple):
        for item in value:
            yield from _texts(item)


def _replaced(value: Any, cleaned: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return cleaned[value]
    if type(value) is dict:
        return {key: _replaced(item, cleaned) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_replaced(item, cleaned) for item in value)
    return value


def _secrets(options: Any) -> Iterator[str]:
    """Yield the texts whose name is one of a secret, at any depth."""
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
