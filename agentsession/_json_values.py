"""JSON: its types, its compact text, what of it can be stored, and where it stands in a reply."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

Json: TypeAlias = "bool | int | float | str | list[Any] | dict[str, Any] | None"
JsonMap: TypeAlias = dict[str, Any]

MAX_DEPTH = 24
"""Levels of nesting in a stored value. MariaDB's JSON functions stop at 32, the map around it takes some."""

MAX_KEY_SHOWN = 60
"""Characters of a key that the place of a value shows. Each value below a key gets a place of its own, so a
long key would be copied for each."""

_FENCE = re.compile(r"```[a-zA-Z]*[ \t\r]*\n(.*?)```", re.DOTALL)
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.DOTALL)


def compact(value: Any) -> str:
    """JSON without white space."""
    return msgspec.json.encode(value).decode()


def storable_text(text: str) -> str:
    """The text with U+FFFD for what no database keeps in JSON: halves of surrogate pairs, and NUL."""
    if _has_lone_surrogate(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def settled(value: Json) -> Json:
    """The value with the numbers that every database gives back in the same form: PostgreSQL makes
    10000000000000000 of 1e16, and 0.0 of -0.0."""
    if isinstance(value, float):
        return int(value) if abs(value) >= 2**53 else value + 0.0
    if isinstance(value, list):
        return [settled(item) for item in value]
    if isinstance(value, dict):
        return {key: settled(item) for key, item in value.items()}
    return value


def unstorable(value: Any, place: str = "") -> Iterator[str]:
    """Each place whose value cannot be stored and read back as the same JSON, and what is wrong there."""
    return _unstorable(value, place, 0)


def _unstorable(value: Any, place: str, depth: int) -> Iterator[str]:
    name = place.removeprefix(".") or "it"
    if depth > MAX_DEPTH:
        yield f"{name} is nested deeper than {MAX_DEPTH} levels"
    elif isinstance(value, str):
        if _has_lone_surrogate(value):
            yield f"{name} holds a lone surrogate, which is not valid Unicode"
        if "\0" in value:
            yield f"{name} holds a NUL character, which databases refuse in JSON"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{name} is {value}, which JSON cannot carry"
    elif hasattr(value, "get_secret_value"):
        yield f"{name} is a secret, which would be stored and shown as asterisks"
    elif isinstance(value, (list, tuple, set, frozenset)):
        for position, item in enumerate(value):
            yield from _unstorable(item, f"{place}[{position}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            shown = shown_key(key)
            yield from _unstorable(key, f"{name}: the key {shown!r}", depth)
            yield from _unstorable(item, f"{place}.{shown}", depth + 1)


def shown_key(key: object) -> str:
    """The beginning of a key, as a place shows it."""
    return ascii(key[:MAX_KEY_SHOWN])[1:-1] if isinstance(key, str) else repr(key)[:MAX_KEY_SHOWN]


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def json_candidates(text: str) -> Iterator[str]:
    """What may be the JSON value of a reply: all of it, a fenced block, or an object or array within prose,
    the last one first.

    Nothing inside a value that is cut off or malformed is a candidate: half a reply must not pass for a
    whole one.
    """
    if _is_json(text):
        yield text.strip()
        return
    yield from (block.strip() for block in reversed(_FENCE.findall(text)) if _is_json(block))
    yield from (part for part in reversed(list(_bracketed(text))) if _is_json(part))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _bracketed(text: str) -> Iterator[str]:
    """Each outermost pair of brackets with what is in it; nothing from the first one that is never closed."""
    depth = start = 0
    for token in _STRUCTURE.finditer(text):
        if depth == 0 and token[0] not in ("{", "["):
            continue
        if depth == 0:
            start = token.start()
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth == 0:
            yield text[start : token.end()]
