"""Tool calls in litellm's form: those of a reply, and those that a later request repeats.

What a provider requires back with its calls (signatures of its thinking, for example) is kept as JSON text
beside them: `message`, `calls` and `hosted` of `_Opaque`, as litellm accepts them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agentsession._json_values import JsonMap, compact
from agentsession._turn.model_io import PromptMessage, ToolCall
from agentsession.provider.protocol import RESERVED_TOOL

HOSTED = "srvtoolu_"
"""The beginning of the ids of calls that Anthropic itself has answered, for example a web search."""

WANTED = frozenset({
    "thought_signatures", "server_side_tool_invocations",  # Gemini
    "compaction_blocks", "web_search_results", "tool_results",  # Anthropic
})  # fmt: skip
"""The parts of a message's `provider_specific_fields` that a later request repeats."""

THINKING_WANTED = ("deepseek", "moonshot")
"""Providers that require the text of the thinking with the calls that follow from it."""


class _Opaque(msgspec.Struct, frozen=True):
    message: JsonMap = {}
    calls: list[JsonMap] = []
    hosted: list[JsonMap] = []


@dataclass
class _Call:
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    fields: JsonMap = field(default_factory=dict)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces) or "{}"

    def add(self, part: Any) -> str:
        """Add a part of the call, or all of it. Return the arguments in it."""
        function = getattr(part, "function", part)
        arguments = function.arguments or ""
        piece = arguments if isinstance(arguments, str) else compact(arguments)
        self.id = getattr(part, "id", None) or self.id
        self.name = function.name or self.name
        self.pieces.append(piece)
        for name in ("provider_specific_fields", "extra_content"):
            if more := getattr(part, name, None) or getattr(function, name, None):
                self.fields[name] = {**self.fields.get(name, {}), **more}
        return piece


class Calls:
    """The calls of one reply, from its message or from the pieces of a stream."""

    def __init__(self) -> None:
        self.all: list[_Call] = []
        self._forced: list[str] = []
        self._at: dict[Any, _Call] = {}

    @classmethod
    def of(cls, message: Any) -> Calls:
        calls = cls()
        for nth, part in enumerate(_parts(message)):
            calls._take(calls._begun(nth), part)
        return calls

    def add(self, delta: Any) -> str:
        """Add the next piece of a stream. Return the text in it: the arguments of the reserved tool."""
        return "".join([self._take(self._call(part), part) for part in _parts(delta)])

    def _take(self, call: _Call, part: Any) -> str:
        piece = call.add(part)
        if call.name != RESERVED_TOOL:
            return ""
        self._forced.append(piece)
        return piece

    def _call(self, part: Any) -> _Call:
        """Return the call that a piece belongs to.

        litellm uses the index alone, which some services omit, or set to 0 for each call. So another id
        with a name begins another call.
        """
        index, own = getattr(part, "index", None) or 0, getattr(part, "id", None)
        known = self._at.get(own) if own else None
        call = known or self._at.get(index)
        if call is None or (own and not known and call.id and part.function.name):
            call = self._begun(index)
        self._at[index] = call
        if own:
            self._at[own] = call
        return call

    def _begun(self, index: int) -> _Call:
        call = self._at[index] = _Call()
        self.all.append(call)
        return call

    @property
    def forced(self) -> str:
        """The arguments of the reserved tool, which are the text of the reply."""
        return "".join(self._forced)

    @property
    def own(self) -> list[_Call]:
        """The calls of the agent's tools, for which the provider expects a result."""
        wanted = [call for call in self.all if call.name or any(call.pieces)]
        return [call for call in wanted if call.name != RESERVED_TOOL and not call.id.startswith(HOSTED)]

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(ToolCall(call.name, call.arguments) for call in self.own)

    def opaque(self, message: Any, provider: str) -> str:
        """Return what the provider requires back with these calls, as JSON; empty if it requires nothing."""
        if not self.own:
            return ""
        fields = _fields(message, provider)
        answers, own = _answered(fields), [call.fields for call in self.own]
        kept = {
            "message": fields,
            "calls": own if any(own) else [],
            "hosted": [*self._hosted(message, answers)],
        }
        filled = {name: value for name, value in kept.items() if value}
        return json.dumps(filled, separators=(",", ":"), default=dict) if filled else ""

    def _hosted(self, message: Any, answers: set[str]) -> Iterator[JsonMap]:
        """Yield the calls that the provider has answered itself. litellm after 1.105 lists them apart."""
        for call in self.all:
            if call.id in answers:
                yield _function_call(call.id, call)
        more = getattr(message, "provider_specific_fields", None) or {}
        for call in more.get("server_tool_calls") or ():
            if call["id"] in answers:
                yield {"id": call["id"], "type": "function", "function": call["function"]}


def _parts(message: Any) -> Iterator[Any]:
    """Yield the function calls of a message or a delta, also one in the older form `function_call`."""
    calls = getattr(message, "tool_calls", None) or ()
    yield from (call for call in calls if getattr(call, "function", None) is not None)
    if not calls and (call := getattr(message, "function_call", None)) is not None:
        yield call


def _fields(message: Any, provider: str) -> JsonMap:
    """Return the parts of a message that a later request repeats with its calls."""
    found: JsonMap = {}
    if blocks := getattr(message, "thinking_blocks", None):
        found["thinking_blocks"] = blocks
    if provider in THINKING_WANTED and (thinking := getattr(message, "reasoning_content", None)):
        found["reasoning_content"] = thinking
    more = getattr(message, "provider_specific_fields", None) or {}
    if wanted := {name: value for name, value in more.items() if name in WANTED and value}:
        found["provider_specific_fields"] = wanted
    return found


def _answered(fields: JsonMap) -> set[str]:
    """Return the ids of the calls that the provider has answered itself."""
    more = fields.get("provider_specific_fields", {})
    results = [*more.get("web_search_results", ()), *more.get("tool_results", ())]
    return {result["tool_use_id"] for result in results if "tool_use_id" in result}


def _function_call(id: str, call: Any) -> JsonMap:
    return {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def message(entry: PromptMessage) -> JsonMap:
    """Return a message of the prompt in litellm's form."""
    if not entry.calls and not entry.call:
        return {"role": entry.role, "content": entry.content}
    if entry.role == "tool":
        return {"role": "tool", "tool_call_id": entry.call, "content": entry.content}
    kept = _kept(entry.opaque)
    fields: list[JsonMap] = kept.calls if len(kept.calls) == len(entry.calls) else [{} for _ in entry.calls]
    calls = [
        {**more, **_function_call(call.id, call)} for more, call in zip(fields, entry.calls, strict=True)
    ]
    content = entry.content if entry.content.strip() else None
    return {**kept.message, "role": entry.role, "content": content, "tool_calls": [*kept.hosted, *calls]}


_opaque = msgspec.json.Decoder(_Opaque).decode
"""Made at import: msgspec 0.22 resolves a type at its first use, which two threads must not do at once."""


def _kept(opaque: str) -> _Opaque:
    try:
        return _opaque(opaque)
    except (msgspec.DecodeError, RecursionError):
        return _Opaque()


def names(prompt: tuple[PromptMessage, ...]) -> list[str]:
    """Return the names of the tools that were called in a conversation."""
    return [*dict.fromkeys(call.name for entry in prompt for call in entry.calls)]


def function(name: str, description: str, parameters: Mapping[str, Any]) -> JsonMap:
    """Return a tool in the form of a request."""
    described = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": described}
