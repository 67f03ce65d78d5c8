"""JSON values: their types, their text, what of them can be stored, and the order of their fields.

Input that cannot be stored is refused, and replies are corrected, in the same way for every database.
"""

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
"""Levels of nesting in a stored value. MariaDB's JSON functions stop at 32, some of which the map needs."""

MAX_KEY_SHOWN = 60
"""Characters of a key that the path to a value shows. Each value below a key has a path, so a long key would
be copied for each of them."""

_FENCE = re.compile(r"```[a-zA-Z]*[ \t\r]*\n(.*?)```", re.DOTALL)
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.DOTALL)


def compact(value: Any) -> str:
    """Return the JSON text of a value, without white space."""
    return msgspec.json.encode(value).decode()


def storable_text(text: str) -> str:
    """Return the text with U+FFFD for what PostgreSQL does not keep in JSON: lone surrogates and NUL."""
    if text.isascii() and "\0" not in text:
        return text
    if _has_lone_surrogate(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def with_portable_numbers(value: Json) -> Json:
    """Return the value with numbers that every database returns in the same form.

    PostgreSQL returns 10000000000000000 for 1e16, and 0.0 for -0.0, and what the model is shown must be the
    same bytes after a reload.
    """
    if isinstance(value, float):
        return int(value) if abs(value) >= 2**53 else value + 0.0
    if isinstance(value, list):
        return [with_portable_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: with_portable_numbers(item) for key, item in value.items()}
    return value


def unstorable(value: Any, path: str = "") -> Iterator[str]:
    """Yield what is wrong with each value that cannot be stored and read again as the same JSON."""
    return _unstorable(value, path, 0)


def _unstorable(value: Any, path: str, depth: int) -> Iterator[str]:
    name = path.removeprefix(".") or "it"
    if depth > MAX_DEPTH:
        yield f"{name} is nested deeper than {MAX_DEPTH} levels"
    elif isinstance(value, str):
        if not value.isascii() and _has_lone_surrogate(value):
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
            yield from _unstorable(item, f"{path}[{position}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            shown = shown_key(key)
            yield from _unstorable(key, f"{name}: the key {shown!r}", depth)
            yield from _unstorable(item, f"{path}.{shown}", depth + 1)


def shown_key(key: object) -> str:
    """Return the beginning of a key, as a path shows it."""
    return ascii(key[:MAX_KEY_SHOWN])[1:-1] if isinstance(key, str) else repr(key)[:MAX_KEY_SHOWN]


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def json_candidates(text: str) -> Iterator[str]:
    """Yield what may be the JSON value of a reply.

    It is the whole reply, or a fenced block, or an object or array inside prose, the last one first. Nothing
    inside a value that is cut off or malformed is a candidate: half a report must not become an empty one.
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
    """Yield each outermost pair of brackets with its content, up to the first bracket that is not closed."""
    depth = start = 0
    for token in _STRUCTURE.finditer(text):
        if depth == 0 and token[0] not in ("{", "["):
            continue
        if depth == 0:
            start = token.start()
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth == 0:
            yield text[start : token.end()]


def resolve(node: Any, root: JsonMap) -> JsonMap:
    """Return the schema of a node: the definition in the root, if the node is a reference."""
    while isinstance(node, dict) and "$ref" in node:
        node = root.get("$defs", {}).get(str(node["$ref"]).rsplit("/", 1)[-1], {})
    return node if isinstance(node, dict) else {}


def ordered(value: Json, node: Any, root: JsonMap) -> Json:
    """Return the value with its keys in the order of the schema. Unknown keys follow by name."""
    if isinstance(value, list):
        items = resolve(node, root).get("items", {})
        return [ordered(item, items, root) for item in value]
    if not isinstance(value, dict):
        return value
    shape = _shape_of(value, node, root)
    fields = shape.get("properties", {})
    rank = {name: position for position, name in enumerate(fields)}
    other = shape.get("additionalProperties", {})
    keys = sorted(value, key=lambda key: (rank.get(key, len(rank)), key))
    return {key: ordered(value[key], fields.get(key, other), root) for key in keys}


def _shape_of(value: JsonMap, node: Any, root: JsonMap) -> JsonMap:
    """Return the branch of a union whose fields include the keys of the value."""
    shape = resolve(node, root)
    for part in [*shape.get("anyOf", ()), *shape.get("oneOf", ())]:
        branch = _shape_of(value, part, root)
        if branch.get("properties") and value.keys() <= branch["properties"].keys():
            return branch
    return shape
