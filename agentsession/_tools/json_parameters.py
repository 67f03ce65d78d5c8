"""The parameters of a tool as a JSON schema, and the arguments of a call as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from functools import cached_property
from typing import Any

from pydantic_core import from_json

from agentsession._json_values import MAX_KEY_SHOWN, Json, JsonMap
from agentsession._safe_errors import MAX_DESCRIPTION, MAX_SHOWN
from agentsession._schema import SchemaMismatch

_MAX_RULE = 120
"""Characters of a rule in an error."""

_ANNOTATIONS = frozenset({
    "$schema", "$id", "$anchor", "$dynamicAnchor", "$vocabulary", "$comment", "$defs", "definitions", "title",
    "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "then", "else",
})  # fmt: skip
"""Keywords of a JSON schema that restrict nothing by themselves."""

_JOINED = ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if")
_OPEN = ("additionalProperties", "unevaluatedProperties", "patternProperties")
_NAMES_ONLY = ("required", "additionalProperties", "dependentRequired")
"""Rules whose message has names, never a value."""


class JsonParameters:
    """Parameters as a JSON schema. The function gets plain JSON values.

    `takes_more`: the function has `**kwargs`.
    """

    def __init__(self, declared: JsonMap, takes_more: bool) -> None:
        self.declared = declared
        self.takes_more = takes_more

    @cached_property
    def schema(self) -> JsonMap:
        """The complete schema. It forbids unknown names unless the declared one has a rule for them."""
        import jsonschema

        self._refuse_other_dicts()
        shape: JsonMap = {"type": "object", "properties": {}, **deepcopy(self.declared)}
        if not self.takes_more and not any(word in shape for word in (*_JOINED, *_OPEN)):
            shape["additionalProperties"] = False
        try:
            self._kind.check_schema(shape)
        except jsonschema.SchemaError as error:
            raise TypeError(f"not a JSON schema: {error.message}") from None
        if shape["type"] != "object" or not isinstance(shape["properties"], dict):
            raise TypeError("the schema is not one of an object with properties")
        self._refuse_dangling(shape)
        return shape

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(self.schema["properties"])

    def accept(self, text: str) -> JsonMap:
        arguments, _ = read_arguments(text)
        try:
            problems = list(self._problems(arguments))
        except Exception as error:
            raise SchemaMismatch(f"it could not be validated ({type(error).__name__})") from error
        if problems:
            more = [f"and {len(problems) - MAX_SHOWN} more"] if len(problems) > MAX_SHOWN else []
            raise SchemaMismatch("; ".join([*problems[:MAX_SHOWN], *more])[:MAX_DESCRIPTION])
        return arguments

    def _refuse_other_dicts(self) -> None:
        """Raise `TypeError` for a dict like `{"customer": "str"}`, a valid JSON schema without any rule."""
        other = [
            word for word in self.declared if word not in _ANNOTATIONS and word not in self._kind.VALIDATORS
        ]
        if other and not any(word in self.declared for word in ("type", "properties", *_JOINED, *_OPEN)):
            raise TypeError(f"a dict with the key {other[0]!r} is not a JSON schema of an object")

    def _refuse_dangling(self, shape: JsonMap) -> None:
        """Raise `TypeError` for a reference without a target."""
        from referencing.jsonschema import EMPTY_REGISTRY, specification_with

        kind = specification_with(self._kind.ID_OF(self._kind.META_SCHEMA))
        root = kind.create_resource(shape)
        reference = next(_dangling(root, EMPTY_REGISTRY.resolver_with_root(root)), None)
        if reference is not None:
            raise TypeError(f"its $ref {reference!r} has no target in the schema, and none is fetched")

    def _problems(self, arguments: JsonMap) -> Iterator[str]:
        errors = self._validator.iter_errors(arguments)
        for error in sorted(errors, key=lambda each: list(map(str, each.path))):
            path = ".".join(map(str, error.absolute_path)) or "value"
            yield f"{path}: {_broken_rule(error)}"

    @property
    def _kind(self) -> Any:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import validator_for

        return validator_for(self.declared, default=Draft202012Validator)

    @cached_property
    def _validator(self) -> Any:
        """The validator. Its registry is empty, so that no reference is fetched."""
        from referencing.jsonschema import EMPTY_REGISTRY

        return self._kind(self.schema, registry=EMPTY_REGISTRY)


def _dangling(part: Any, resolver: Any) -> Iterator[str]:
    """Yield the references of a schema, and of the schemas in it, that have no target."""
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


def _broken_rule(error: Any) -> str:
    """Return the rule that an error broke. The message of jsonschema would repeat the value."""
    if error.validator in _NAMES_ONLY:
        return str(error.message)
    rule = json.dumps(error.validator_value, ensure_ascii=False, default=str)
    short = rule if len(rule) <= _MAX_RULE else rule[:_MAX_RULE] + "…"
    return f"does not fit {error.validator}: {short}"


def read_arguments(text: str) -> tuple[JsonMap, str]:
    """Return the arguments of a call as a JSON object, and their text; raises `SchemaMismatch`."""
    text = text if text.strip() else "{}"
    try:
        arguments = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise SchemaMismatch(f"value: Invalid JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise SchemaMismatch("value: Input should be an object")
    path = next(_not_finite(arguments), None)
    if path is not None:
        raise SchemaMismatch(f"{path[:MAX_DESCRIPTION]}: Input should be a finite number")
    return arguments, text


def _not_finite(value: Json, path: str = "") -> Iterator[str]:
    """Yield the path of each number that is too large for a float: `1e400` is read as infinite."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield path
    elif isinstance(value, (list, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            short = str(key)[:MAX_KEY_SHOWN]
            yield from _not_finite(item, f"{path}.{short}" if path else short)
