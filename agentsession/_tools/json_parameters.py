"""Parameters that were written as a JSON schema."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from functools import cached_property
from typing import Any

from pydantic_core import from_json

from agentsession._json_values import MAX_KEY_SHOWN, Json, JsonMap
from agentsession._schema import SchemaMismatch
from agentsession._validation import MAX_DESCRIPTION, MAX_SHOWN

_MAX_RULE = 120
"""Characters of a rule that are shown."""

_ANNOTATIONS = frozenset({
    "$schema", "$id", "$anchor", "$dynamicAnchor", "$vocabulary", "$comment", "$defs", "definitions", "title",
    "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "then", "else",
})  # fmt: skip
"""Words of a JSON schema that are no rules of their own."""

_JOINED = ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if")
_OPEN = ("additionalProperties", "unevaluatedProperties", "patternProperties")
_TELLING = ("required", "additionalProperties", "dependentRequired")
"""Rules whose error tells names and never a value."""


class PlainParameters:
    """A JSON schema; the function is given the plain values."""

    def __init__(self, given: JsonMap, takes_more: bool) -> None:
        self.given = given
        self.takes_more = takes_more

    @cached_property
    def schema(self) -> JsonMap:
        """Closed against unknown names, unless it says something about them itself."""
        import jsonschema

        self._refuse_other_dicts()
        shape: JsonMap = {"type": "object", "properties": {}, **deepcopy(self.given)}
        if not self.takes_more and not any(word in shape for word in (*_JOINED, *_OPEN)):
            shape["additionalProperties"] = False
        try:
            self._kind.check_schema(shape)
        except jsonschema.SchemaError as error:
            raise TypeError(f"no JSON schema: {error.message}") from None
        if shape["type"] != "object" or not isinstance(shape["properties"], dict):
            raise TypeError("the schema describes no object with properties")
        self._refuse_dangling(shape)
        return shape

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(self.schema["properties"])

    def accept(self, text: str) -> JsonMap:
        given, _ = read_arguments(text)
        try:
            problems = list(self._problems(given))
        except Exception as error:
            raise SchemaMismatch(f"it could not be validated ({type(error).__name__})") from error
        if problems:
            more = [f"and {len(problems) - MAX_SHOWN} more"] if len(problems) > MAX_SHOWN else []
            raise SchemaMismatch("; ".join([*problems[:MAX_SHOWN], *more])[:MAX_DESCRIPTION])
        return given

    def _refuse_other_dicts(self) -> None:
        """`{"customer": "str"}` would pass for a schema that says nothing."""
        other = [
            word for word in self.given if word not in _ANNOTATIONS and word not in self._kind.VALIDATORS
        ]
        if other and not any(word in self.given for word in ("type", "properties", *_JOINED, *_OPEN)):
            raise TypeError(f"a dict with the key {other[0]!r} is no JSON schema of an object")

    def _refuse_dangling(self, shape: JsonMap) -> None:
        from referencing.jsonschema import EMPTY_REGISTRY, specification_with

        kind = specification_with(self._kind.ID_OF(self._kind.META_SCHEMA))
        root = kind.create_resource(shape)
        reference = next(_dangling(root, EMPTY_REGISTRY.resolver_with_root(root)), None)
        if reference is not None:
            raise TypeError(f"its $ref {reference!r} leads nowhere, and none is fetched")

    def _problems(self, given: JsonMap) -> Iterator[str]:
        for error in sorted(self._validator.iter_errors(given), key=lambda each: list(map(str, each.path))):
            place = ".".join(map(str, error.absolute_path)) or "value"
            yield f"{place}: {_rule(error)}"

    @property
    def _kind(self) -> Any:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import validator_for

        return validator_for(self.given, default=Draft202012Validator)

    @cached_property
    def _validator(self) -> Any:
        """With an empty registry, so that no reference is fetched from anywhere."""
        from referencing.jsonschema import EMPTY_REGISTRY

        return self._kind(self.schema, registry=EMPTY_REGISTRY)


def _dangling(part: Any, resolver: Any) -> Iterator[str]:
    """The references of a schema, and of those in it, that cannot be followed."""
    from referencing.exceptions import Unresolvable

    inside = resolver.in_subresource(part)
    reference = part.contents.get("$ref") if isinstance(part.contents, dict) else None
    try:
        if isinstance(reference, str):
            inside.lookup(reference)
    except Unresolvable:
        yield str(reference)
    for each in part.subresources():
        yield from _dangling(each, inside)


def _rule(error: Any) -> str:
    """The rule that was broken; jsonschema's own words repeat the value."""
    if error.validator in _TELLING:
        return str(error.message)
    rule = json.dumps(error.validator_value, ensure_ascii=False, default=str)
    shown = rule if len(rule) <= _MAX_RULE else rule[:_MAX_RULE] + "…"
    return f"does not fit {error.validator}: {shown}"


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
