"""A JSON schema in the form that providers call strict.

Every object lists all its properties as required and forbids others; unions are `anyOf`; a reference
stands alone; the root is an object. Constraints that no provider accepts are left out, because the full
schema validates the reply. The rules:
https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from __future__ import annotations

from typing import Any

from agentsession._json_values import JsonMap

_KEPT = frozenset({
    "type", "title", "description", "enum", "const", "pattern", "format", "minLength", "maxLength",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems",
})  # fmt: skip
_FORMATS = frozenset({"date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_SHAPING = frozenset({"prefixItems", "patternProperties", "allOf", "not", "if", "dependentSchemas"})


def strict(schema: JsonMap, *, inline: bool = False) -> JsonMap | None:
    """Return the strict form; None for free keys, any value or a tuple, which have none.

    `inline` puts each definition where it is referred to. A recursive schema then has no strict form.
    """
    definitions = schema.get("$defs", {})
    root = rooted(schema)
    try:
        found: JsonMap = _Strict(definitions, inline).node(root, _inside(schema))
        if definitions and not inline:
            parts = {name: _Strict(definitions, inline).node(part, ()) for name, part in definitions.items()}
            found |= {"$defs": parts}
    except _NotStrict:
        return None
    return found


def rooted(schema: JsonMap) -> JsonMap:
    """Return the schema with its object at the root, where pydantic puts a reference to a recursive model."""
    if "$ref" not in schema:
        return schema
    rest = {key: value for key, value in schema.items() if key != "$ref"}
    return {**schema["$defs"][_name(schema)], **rest}


class _NotStrict(Exception):
    pass


class _Strict:
    def __init__(self, definitions: JsonMap, inline: bool) -> None:
        self.definitions = definitions
        self.inline = inline

    def node(self, node: JsonMap, inside: tuple[str, ...]) -> JsonMap:
        """Return the strict form of a part. `inside` are the inlined definitions around it."""
        if "$ref" in node:
            return self.reference(node, inside)
        branches = node.get("anyOf") or node.get("oneOf")
        if not (branches or "type" in node) or _SHAPING & node.keys():
            raise _NotStrict
        found = {key: value for key, value in node.items() if key in _KEPT and _is_accepted(key, value)}
        if branches:
            found["anyOf"] = [self.node(branch, inside) for branch in branches]
        if node.get("type") == "array":
            found["items"] = self.node(node.get("items") or {}, inside)
        if node.get("type") == "object":
            found |= self.object(node, inside)
        return found

    def object(self, node: JsonMap, inside: tuple[str, ...]) -> JsonMap:
        if "properties" not in node or node.get("additionalProperties"):
            raise _NotStrict
        fields = {name: self.node(part, inside) for name, part in node["properties"].items()}
        return {"properties": fields, "required": list(fields), "additionalProperties": False}

    def reference(self, node: JsonMap, inside: tuple[str, ...]) -> JsonMap:
        """Return a bare reference as it is, and the target of one with a description beside it."""
        name = _name(node)
        beside = {key: value for key, value in node.items() if key in _KEPT}
        if not (self.inline or beside):
            return {"$ref": node["$ref"]}
        if name in inside:
            if self.inline:
                raise _NotStrict
            return {"$ref": node["$ref"]}
        return self.node({**self.definitions[name], **beside}, (*inside, name))


def _is_accepted(key: str, value: Any) -> bool:
    """Return whether providers accept a constraint. They refuse lookaround and unknown formats."""
    return not (key == "format" and value not in _FORMATS) and not (key == "pattern" and "(?" in value)


def _name(node: JsonMap) -> str:
    return str(node["$ref"]).rsplit("/", 1)[-1]


def _inside(schema: JsonMap) -> tuple[str, ...]:
    return (_name(schema),) if "$ref" in schema else ()
