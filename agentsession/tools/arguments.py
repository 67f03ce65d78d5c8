"""The arguments of a call as the model wrote them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic_core import from_json

from agentsession.json_values import MAX_KEY_SHOWN, Json, JsonMap
from agentsession.schema import SchemaMismatch
from agentsession.validation import MAX_DESCRIPTION


def read_arguments(text: str) -> tuple[JsonMap, str]:
    """The arguments as a plain object, and their text; raises `SchemaMismatch`."""
    text = text if text.strip() else "{}"
    try:
        given = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise SchemaMismatch(f"value: Invalid JSON: {error}") from None
    if not isinstance(given, dict):
        raise SchemaMismatch("value: Input should be an object")
    place = next(_not_finite(given), None)
    if place is not None:
        raise SchemaMismatch(f"{place[:MAX_DESCRIPTION]}: Input should be a finite number")
    return given, text


def _not_finite(value: Json, place: str = "") -> Iterator[str]:
    """Where a number is too large for a float: `1e400` is read as infinite."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield place
    elif isinstance(value, (list, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            shown = str(key)[:MAX_KEY_SHOWN]
            yield from _not_finite(item, f"{place}.{shown}" if place else shown)
