"""A JSON schema in the form that providers call strict.

Every object lists all its properties as required and forbids others; unions are `anyOf`; defaults and
discriminators go. Rules: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from __future__ import annotations

from typing import Any

from agentsession.json_values import JsonMap


def strict(schema: JsonMap) -> JsonMap | None:
    """The strict form, or None where the schema has an object with free keys, which cannot be strict."""
    try:
        found: JsonMap = _strict(schema)
    except _FreeKeys:
        return None
    return found


class _FreeKeys(Exception):
    pass


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(part) for part in node]
    if not isinstance(node, dict):
        return node
    node = {key: value for key, value in node.items() if key not in ("default", "discriminator")}
    if "oneOf" in node:
        node["anyOf"] = node.pop("oneOf")
    if node.get("type") == "object":
        if "properties" not in node or node.get("additionalProperties"):
            raise _FreeKeys
        node |= {"required": list(node["properties"]), "additionalProperties": False}
    named = ("properties", "$defs")
    return {
        key: {name: _strict(part) for name, part in value.items()}
        if key in named
        else value
        if key in ("enum", "const", "required")
        else _strict(value)
        for key, value in node.items()
    }
