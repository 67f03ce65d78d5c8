"""The offline provider: no key, no network. It repeats the user's words in the shape of the output schema."""

from __future__ import annotations

from typing import Any

from agentsession.context import Usage
from agentsession.json_values import Json, JsonMap, compact
from agentsession.provider.protocol import Request
from agentsession.turn.effects import Reply

FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00",
    "duration": "PT1S",
    "email": "echo@example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
}


class Echo:
    """Answers with what it was told and how often it was spoken to, so that memory can be seen."""

    def ask(self, request: Request) -> Reply:
        said = [message.content for message in request.view if message.role == "user"]
        words = f"You said: {said[-1]} (message {len(said)} of this conversation)"
        text = words if request.output.is_text else compact(shaped(request.output.json_schema, words))
        asked = sum(len(message.content.split()) for message in request.view)
        told = len(text.split())
        usage = Usage(input_tokens=asked, output_tokens=told, total_tokens=asked + told)
        return Reply(text, usage=usage, cost=0.0, model=request.client.id, finish_reason="stop")


def shaped(schema: JsonMap, words: str) -> Json:
    """A value that fits a JSON schema, with the words wherever free text fits."""
    return _shaped(schema, schema, words, 0)


def _shaped(node: Any, root: JsonMap, words: str, depth: int) -> Json:
    while isinstance(node, dict) and "$ref" in node:
        node = root.get("$defs", {}).get(str(node["$ref"]).rsplit("/", 1)[-1], {})
    if not isinstance(node, dict) or depth > 8:
        return None
    choices: list[Json] = [node["const"]] if "const" in node else node.get("enum", [])
    if choices:
        return choices[0]
    for union in ("anyOf", "oneOf", "allOf"):
        if node.get(union):
            branches = node[union]
            deep = depth > 4 and {"type": "null"} in branches
            return None if deep else _shaped(branches[0], root, words, depth + 1)
    return _of_type(node, root, words, depth)


def _of_type(node: JsonMap, root: JsonMap, words: str, depth: int) -> Json:
    match node.get("type"):
        case "object":
            wanted = node.get("properties", {})
            return {name: _shaped(part, root, words, depth + 1) for name, part in wanted.items()}
        case "array":
            fixed = [_shaped(part, root, words, depth + 1) for part in node.get("prefixItems", ())]
            few = max(node.get("minItems", 1 if depth < 4 else 0) - len(fixed), 0)
            items = node.get("items", {"type": "string"})
            return fixed + [_shaped(items, root, words, depth + 1) for _ in range(few if items else 0)]
        case "integer" | "number" as kind:
            return _number(node, kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case _:
            text = FORMATS.get(node.get("format", ""), words)
            return text[: node.get("maxLength", len(text))].ljust(node.get("minLength", 0), ".")


def _number(node: JsonMap, whole: bool) -> int | float:
    step = node.get("multipleOf", 1)
    low = node.get("minimum", node.get("exclusiveMinimum"))
    high = node.get("maximum", node.get("exclusiveMaximum"))
    value = low if low is not None else min(0, high) if high is not None else 0
    if "exclusiveMinimum" in node and value == node["exclusiveMinimum"]:
        value += step if whole or high is None else (high - value) / 2
    if "exclusiveMaximum" in node and value == node["exclusiveMaximum"]:
        value -= step
    return int(value) if whole else value
