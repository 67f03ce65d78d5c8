"""What a request gives: the input of a turn, and whose session it is."""

from __future__ import annotations

import re
from typing import Any

from agentsession import info
from agentsession._json_values import Json, JsonMap
from agentsession.contrib._web.problems import NOT_WRAPPED, UNAUTHORIZED, Problem, Refused

WRAPPER = "input"
"""The key under which an input travels that is no object by itself."""

LISTED, MAX_LISTED = 20, 100
"""Sessions on one page."""

NO_LIMIT = Problem(422, "InputInvalid", f"limit is no number from 1 to {MAX_LISTED}")


def is_wrapped(model: type[Any]) -> bool:
    schema = info.agent_options(model).input.adapter.json_schema()
    return not _is_object(schema, schema.get("$defs", {}))


def unwrapped(body: Json) -> Json:
    """The input in the body of a request."""
    if not isinstance(body, dict) or list(body) != [WRAPPER]:
        raise Refused(NOT_WRAPPED)
    given: Json = body[WRAPPER]
    return given


def present(actor: Any) -> Any:
    """The actor itself; raises what becomes a 401 where there is none."""
    if actor is None or (isinstance(actor, str) and not actor):
        raise Refused(UNAUTHORIZED)
    return actor


def limit_of(text: str | None) -> int:
    """How many sessions a page has."""
    if text is None:
        return LISTED
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LISTED:
        raise Refused(NO_LIMIT)
    return int(text)


def _is_object(node: JsonMap, definitions: JsonMap) -> bool:
    if "$ref" in node:
        return _is_object(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    branches = node.get("anyOf") or node.get("oneOf")
    if branches:
        return all(_is_object(branch, definitions) for branch in branches)
    return bool(node.get("type") == "object")
