"""The offline provider: no key, no network. It repeats the message in the form of the output schema."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from typing import Any

from agentsession._json_values import Json, JsonMap, compact
from agentsession._turn.model_io import Delta, Reply
from agentsession._turn_state import Usage
from agentsession.provider.protocol import Request

FORMATS = {
    "base64": "ZWNobw==",
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "duration": "PT1S",
    "email": "echo@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "00:00:00",
    "uri": "https://example.com/",
    **{f"uuid{version or ''}": f"00000000-0000-{version or 4}000-8000-000000000000" for version in range(9)},
}


class Echo:
    """Replies with the message and the number of messages, which shows that the conversation is stored."""

    def ask(self, request: Request) -> Reply:
        messages = [message.content for message in request.prompt if message.role == "user"]
        words = f"You said: {messages[-1]} (message {len(messages)} of this conversation)"
        text = words if request.output.is_text else compact(shaped(request.output.json_schema, words))
        sent = sum([len(message.content.split()) for message in request.prompt])
        received = len(text.split())
        usage = Usage(input_tokens=sent, output_tokens=received, total_tokens=sent + received)
        return Reply(text, usage=usage, cost=0.0, model=request.client.id, finish_reason="stop")

    async def aask(self, request: Request) -> Reply:
        return self.ask(request)

    def stream(self, request: Request) -> Iterator[Delta | Reply]:
        reply = self.ask(request)
        yield from map(Delta, words_in(reply.text))
        yield reply

    async def astream(self, request: Request) -> AsyncIterator[Delta | Reply]:
        for piece in self.stream(request):
            yield piece


def words_in(text: str) -> list[str]:
    """Return the words of a text, each with the white space that follows it. Joined they are the text."""
    return re.findall(r"\s*\S+\s*|\s+", text)


def shaped(schema: JsonMap, words: str) -> Json:
    """Return a value that fits a JSON schema, with `words` wherever free text fits.

    A text with a pattern is the example or the default of its field: no other text is known to fit.
    """
    return _Shaper(schema.get("$defs", {}), words).value(schema, 0, ())


class _Shaper:
    """`nth` is the position in a list, so that its items differ; `path` holds the enclosing definitions."""

    def __init__(self, definitions: JsonMap, words: str) -> None:
        self.definitions = definitions
        self.words = words

    def value(self, node: JsonMap, nth: int, path: tuple[str, ...]) -> Json:
        while "$ref" in node:
            name = str(node["$ref"]).rsplit("/", 1)[-1]
            node, path = self.definitions[name], (*path, name)
        if path.count(path[-1] if path else "") > 8:
            return None
        choices: list[Json] = [node["const"]] if "const" in node else node.get("enum", [])
        if choices:
            return choices[nth % len(choices)]
        branches = node.get("anyOf") or node.get("oneOf")
        if branches:
            return self.value(_simplest(branches) if _is_deep(path) else branches[0], nth, path)
        return self.of_type(node, nth, path)

    def of_type(self, node: JsonMap, nth: int, path: tuple[str, ...]) -> Json:
        match node.get("type"):
            case "object":
                return self.object(node, path)
            case "array":
                return self.array(node, path)
            case "integer" | "number" as kind:
                return _number(node, nth, kind == "integer")
            case "boolean":
                return nth % 2 == 0
            case "null":
                return None
            case _:
                return self.text(node, nth)

    def object(self, node: JsonMap, path: tuple[str, ...]) -> JsonMap:
        found = {name: self.value(part, 0, path) for name, part in node.get("properties", {}).items()}
        free = node.get("additionalProperties")
        for nth in range(node.get("minProperties", 0) - len(found)):
            name = self.value(node["propertyNames"], nth, path) if "propertyNames" in node else nth + 1
            found[str(name)] = self.value(free if isinstance(free, dict) else {}, nth, path)
        return found

    def array(self, node: JsonMap, path: tuple[str, ...]) -> list[Json]:
        first = [self.value(part, 0, path) for part in node.get("prefixItems", ())]
        wanted = max(node.get("minItems", 0), 0 if first or _is_deep(path) else 1)
        count = min(wanted, node.get("maxItems", wanted))
        items = node.get("items") or {}
        return first + [self.value(items, nth, path) for nth in range(len(first), count)]

    def text(self, node: JsonMap, nth: int) -> str:
        text = FORMATS.get(node.get("format", ""), f"{nth + 1}. {self.words}" if nth else self.words)
        if "contentSchema" in node:
            text = compact(self.value(node["contentSchema"], nth, ()))
        if "pattern" in node:
            text = [*node.get("examples", ()), node.get("default") or text][0]
        return text[: node.get("maxLength", len(text))].ljust(node.get("minLength", 0), ".")


def _is_deep(path: tuple[str, ...]) -> bool:
    """Return whether a definition encloses itself."""
    return len(path) > len(set(path))


def _simplest(branches: list[JsonMap]) -> JsonMap:
    """Return the branch that ends a recursion, if there is one."""
    return min(branches, key=lambda branch: ("$ref" in branch, branch.get("type") in ("object", "array")))


def _number(node: JsonMap, nth: int, whole: bool) -> int | float:
    low = node.get("minimum", node.get("exclusiveMinimum"))
    high = node.get("maximum", node.get("exclusiveMaximum"))
    step = node.get("multipleOf", 1 if whole else None)
    if step is not None:
        value = _steps(node, low, high, step, nth) * Fraction(step)
        return int(value) if whole else float(value)
    if low is not None and high is not None:
        return float(low + (high - low) * (nth + 1) / (nth + 2))
    if high is not None:
        return float(min(0, high - 1) - nth)
    return float(nth if low is None else low + nth + ("exclusiveMinimum" in node))


def _steps(node: JsonMap, low: Any, high: Any, step: Any, nth: int) -> int:
    """Return the steps from zero to the nth value within the bounds. In narrow bounds values repeat."""
    first, last = 0, None
    if high is not None:
        exact = Fraction(high) / Fraction(step)
        last = math.ceil(exact) - 1 if "exclusiveMaximum" in node else math.floor(exact)
        first = min(0, last - nth)
    if low is not None:
        exact = Fraction(low) / Fraction(step)
        first = math.floor(exact) + 1 if "exclusiveMinimum" in node else math.ceil(exact)
    return first + nth if last is None else first + nth % max(last - first + 1, 1)
