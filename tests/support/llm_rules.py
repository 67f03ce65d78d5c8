"""What the strictest services demand of a request's messages and tools, each by its own rules.

https://platform.openai.com/docs/api-reference/chat/create, https://docs.anthropic.com/en/api/messages and
https://docs.mistral.ai/capabilities/function_calling
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

JsonMap = dict[str, Any]

OPENAI_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ANTHROPIC_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
ANTHROPIC_ID = re.compile(r"[a-zA-Z0-9_-]+")
MISTRAL_ID = re.compile(r"[a-zA-Z0-9]{9}")


def broken(path: str, body: JsonMap) -> str | None:
    """The first rule that a request breaks, if any."""
    rules = {"/v1/messages": _anthropic, "/v1/chat/completions": _openai}
    return next(rules[path](body), None) if path in rules else None


def _openai(body: JsonMap) -> Iterator[str]:
    is_mistral = "mistral" in body["model"]
    open_calls: list[str] = []
    before = ""
    for message in body["messages"]:
        role = message.get("role")
        if role not in ("system", "user", "assistant", "tool"):
            yield f"no role: {role}"
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                yield f"a tool message answers no call: {message.get('tool_call_id')}"
            else:
                open_calls.remove(message["tool_call_id"])
            if not isinstance(message.get("content"), str):
                yield "a tool message without content"
        elif open_calls:
            yield f"calls without an answer: {open_calls}"
        if role == "user" and not message.get("content"):
            yield "an empty user message"
        if is_mistral and before == "tool" and role not in ("tool", "assistant"):
            yield f"after a tool message comes one of the role {role}"
        if role == "assistant":
            if not message.get("content") and not message.get("tool_calls"):
                yield "an assistant message with neither content nor calls"
            open_calls = [call["id"] for call in message.get("tool_calls") or ()]
            yield from _openai_calls(message.get("tool_calls"), is_mistral)
        before = role
    if open_calls:
        yield f"calls without an answer: {open_calls}"
    yield from _openai_tools(body)


def _openai_calls(calls: list[JsonMap] | None, is_mistral: bool) -> Iterator[str]:
    if calls is None:
        return
    ids = [call["id"] for call in calls]
    if not calls or len({*ids}) < len(ids):
        yield f"tool_calls that are empty or not unique: {ids}"
    for call in calls:
        function = call["function"]
        if call.get("type") != "function" and not is_mistral:
            yield f"a call of the type {call.get('type')}"
        if len(call["id"]) > 40 or (is_mistral and not MISTRAL_ID.fullmatch(call["id"])):
            yield f"a call's id is {call['id']}"
        if not OPENAI_NAME.fullmatch(function["name"]):
            yield f"a call's name is {function['name']}"
        if not isinstance(function["arguments"], str) or not _is_object(function["arguments"]):
            yield f"arguments: {function['arguments']}"


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _openai_tools(body: JsonMap) -> Iterator[str]:
    tools = body.get("tools")
    if tools is None:
        if "tool_choice" in body or "parallel_tool_calls" in body:
            yield "tool_choice without tools"
        return
    own = [tool["function"] for tool in tools if tool["type"] == "function"]
    names = [function["name"] for function in own]
    if not tools or len({*names}) < len(names):
        yield f"tools that are empty or not unique: {names}"
    for function in own:
        if not OPENAI_NAME.fullmatch(function["name"]):
            yield f"a tool's name is {function['name']}"
        if function.get("parameters", {}).get("type", "object") != "object":
            yield f"the parameters of {function['name']} are no object"


def _anthropic(body: JsonMap) -> Iterator[str]:
    messages = [(message["role"], _blocks(message["content"])) for message in body["messages"]]
    if not messages or messages[0][0] != "user":
        yield "the first message is not the user's"
    ids: list[str] = []
    uses: list[str] = []
    for nth, (role, blocks) in enumerate(messages):
        if role != ("user", "assistant")[nth % 2]:
            yield f"roles do not alternate: {role}"
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(results) != sorted(uses):
            yield f"calls {uses} are answered by {results}"
        if any(block["type"] != "tool_result" for block in blocks[: len(results)]):
            yield "results do not come first"
        yield from _anthropic_blocks(role, blocks)
        uses = [block["id"] for block in blocks if block["type"] == "tool_use"]
        ids += uses
    if uses:
        yield f"calls without an answer: {uses}"
    if len({*ids}) < len(ids):
        yield f"ids are not unique: {ids}"
    is_thinking = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    if is_thinking and _last_step_begins_with(messages) == "tool_use":
        yield "thinking is on, and the last step with calls has no thinking"
    yield from _anthropic_tools(body, bool(ids))


def _last_step_begins_with(messages: list[tuple[str, list[JsonMap]]]) -> str:
    """The type of the first block of the last assistant message that has calls, if it is the last of all."""
    said = [blocks for role, blocks in messages if role == "assistant"]
    kinds = [block["type"] for block in said[-1]] if said else []
    if "tool_use" not in kinds:
        return ""
    return kinds[0] if "thinking" in kinds[0] else "tool_use"


def _blocks(content: str | list[JsonMap]) -> list[JsonMap]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _anthropic_blocks(role: str, blocks: list[JsonMap]) -> Iterator[str]:
    if not blocks:
        yield "a message without content"
    for nth, block in enumerate(blocks):
        match block["type"]:
            case "text" if not block["text"].strip():
                yield "a text block without text"
            case "thinking" | "redacted_thinking":
                if role != "assistant" or any("thinking" not in each["type"] for each in blocks[:nth]):
                    yield "thinking that is not first"
                if not block.get("signature") and not block.get("data"):
                    yield "thinking without a signature"
            case "tool_use":
                if role != "assistant" or not isinstance(block["input"], dict):
                    yield f"a call with {block['input']}"
                if not ANTHROPIC_ID.fullmatch(block["id"]) or not ANTHROPIC_NAME.fullmatch(block["name"]):
                    yield f"a call with the id {block['id']} and the name {block['name']}"
            case "tool_result" if role != "user":
                yield "a result that is not the user's"


def _anthropic_tools(body: JsonMap, needed: bool) -> Iterator[str]:
    tools = body.get("tools") or []
    if needed and not tools:
        yield "tool blocks without tools"
    if "tool_choice" in body and not tools:
        yield "tool_choice without tools"
    own = [tool for tool in tools if tool.get("type", "custom") == "custom"]
    if any(
        not ANTHROPIC_NAME.fullmatch(tool["name"]) or tool["input_schema"]["type"] != "object" for tool in own
    ):
        yield "a tool has no name or no schema"
    if len({tool["name"] for tool in tools}) < len(tools):
        yield "tools are not unique"
