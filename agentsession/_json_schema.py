"""References in a JSON schema, and the order of its fields."""

from __future__ import annotations

from typing import Any

from agentsession._json_values import Json, JsonMap


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
