"""The arguments of a request for litellm, and the reply of its response.

`anthropic:claude-x` is asked as `anthropic/claude-x`; the client's options go to litellm as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentsession._json_values import JsonMap, compact
from agentsession._options import Client
from agentsession._schema import OutputSchema
from agentsession._turn.model_io import Reply
from agentsession._turn_state import Usage
from agentsession.errors import ProviderCallError
from agentsession.provider.litellm.tool_calls import Calls, function, message, names
from agentsession.provider.protocol import RESERVED_TOOL, Request
from agentsession.provider.strict_schema import rooted, strict

THINKING_OPTIONS = ("thinking", "reasoning_effort")


def arguments(litellm: Any, request: Request, limit: float) -> dict[str, Any]:
    """Return the arguments of a call, as copies, because litellm changes the dicts and lists in them."""
    options = _copied(dict(request.client.options))
    own = options.get("timeout")
    messages = [message(entry) for entry in request.prompt]
    if _must_not_think(request.client, messages):
        options = {name: value for name, value in options.items() if name not in THINKING_OPTIONS}
    arguments: dict[str, Any] = {
        **options,
        **_offered(litellm, request, options.get("tools") or []),
        "model": f"{request.client.provider}/{request.client.model}",
        "messages": messages,
        "stream": False,
        "timeout": min(own, limit) if isinstance(own, (int, float)) else limit,
        "num_retries": 0,
        "max_retries": 0,
    }
    if request.output.is_text:
        return arguments
    tools = arguments.get("tools") or []
    if _wants_schema(litellm, request, tools):
        return arguments | {"response_format": _response_format(request)}
    return arguments | {"messages": _with_instructions(messages, request.output, tools)}


def _must_not_think(client: Client, messages: list[JsonMap]) -> bool:
    """Return whether Claude continues a step with calls and without thinking, where it refuses to think.

    Another model has begun the step, or thinking was off.
    """
    is_claude = client.provider == "anthropic" or "claude" in client.model.lower()
    if not is_claude or client.provider not in ("anthropic", "bedrock", "vertex_ai"):
        return False
    replies = [message for message in messages if message["role"] == "assistant"]
    return bool(replies and replies[-1].get("tool_calls") and not replies[-1].get("thinking_blocks"))


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _offered(litellm: Any, request: Request, more: list[Any]) -> JsonMap:
    """Return the tools of the agent, and then those of the options.

    Some providers refuse a conversation with calls and without tools. Without tools, the request therefore
    names the tools that were called, and forbids to call them again.
    """
    tools = [function(tool.name, tool.description, _copied(tool.schema)) for tool in request.tools] + more
    if tools:
        return {"tools": tools}
    called = names(request.prompt)
    if not called:
        return {}
    client = request.client
    taken = litellm.get_supported_openai_params(client.model, client.provider) or ()
    if "tools" not in taken:
        return {}
    stubs = [function(name, "No longer available.", {"type": "object", "properties": {}}) for name in called]
    is_refused = client.provider == "bedrock" or "tool_choice" not in taken
    return {"tools": stubs} | ({} if is_refused else {"tool_choice": "none"})


def _wants_schema(litellm: Any, request: Request, tools: list[Any]) -> bool:
    """Return whether the request has the output schema.

    In `auto`, it has only a schema with a strict form: providers, or litellm for them, turn an object with
    free keys into one without keys, and accept no tuple.
    """
    if request.output_mode != "auto":
        return request.output_mode == "schema"
    client, schema = request.client, rooted(request.output.json_schema)
    if strict(schema, inline=_by_tool(client)) is None:
        return False
    if _by_tool(client) and "values" in schema["properties"]:
        return False  # litellm's conversion of the forced tool would keep that field alone
    if tools and not _takes_both(litellm, request, tools):
        return False
    return bool(litellm.supports_response_schema(model=f"{client.provider}/{client.model}"))


def _takes_both(litellm: Any, request: Request, tools: list[Any]) -> bool:
    """Return whether the model accepts a schema and tools in one request.

    It does not where litellm forces its own tool. Gemini, Groq and Mistral refuse the two together.
    """
    client = request.client
    if client.provider not in ("openai", "azure", "anthropic"):
        return False
    both = {"response_format": _response_format(request), "tools": _copied(tools)}
    mapped = litellm.get_optional_params(client.model, custom_llm_provider=client.provider, **both)
    return RESERVED_TOOL not in str(mapped.get("tools"))


def _by_tool(client: Client) -> bool:
    """Return whether litellm gets structured output by a forced tool, where it also breaks `#/$defs/…`."""
    return "claude" in client.model.lower() or client.provider in ("bedrock", "databricks")


def _response_format(request: Request) -> JsonMap:
    output = request.output
    schema = strict(output.json_schema, inline=_by_tool(request.client))
    body = {"name": output.wire_name, "schema": schema or rooted(output.json_schema)}
    return {"type": "json_schema", "json_schema": body | {"strict": schema is not None}}


def _with_instructions(messages: list[JsonMap], output: OutputSchema, tools: list[Any]) -> list[JsonMap]:
    """Return the messages with the output schema in the system message, for a request without a schema."""
    first = "Once you need no tool any more, answer" if tools else "Answer"
    ask = f"{first} with JSON only, no other text, that fits this JSON schema:\n{compact(output.json_schema)}"
    if messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{messages[0]['content']}\n\n{ask}"}, *messages[1:]]
    return [{"role": "system", "content": ask}, *messages]


def streaming(litellm: Any, request: Request, limit: float) -> dict[str, Any]:
    """Return the arguments of a stream, which reports its usage only on request."""
    options = {"stream_options": {"include_usage": True}}
    return {**options, **arguments(litellm, request, limit), "stream": True}


def reply(litellm: Any, request: Request, response: Any, calls: Calls | None = None) -> Reply:
    """Return the reply of a response, with its calls, or with `calls`, which arrived in pieces."""
    if not response.choices:
        raise ProviderCallError(f"{request.client.id}: the response holds no choices")
    choice = response.choices[0]
    calls = calls or Calls.of(choice.message)
    usage = _usage(getattr(response, "usage", None))
    return Reply(
        text=text_of(choice.message) or calls.forced,
        thinking=getattr(choice.message, "reasoning_content", None) or "",
        calls=calls.tool_calls,
        opaque=calls.opaque(choice.message, request.client.provider),
        usage=usage,
        cost=_cost(litellm, request.client, response) if usage.total_tokens else None,
        model=response.model or request.client.model,
        finish_reason=choice.finish_reason or "",
        raw=response,
    )


def text_of(part: Any) -> str:
    """Return the text of a reply, or of a piece of it. A refusal has its text in another field."""
    content = part.content
    if isinstance(content, list):
        content = "".join(str(block.get("text") or "") for block in content if isinstance(block, Mapping))
    more = getattr(part, "provider_specific_fields", None) or {}
    return str(content or more.get("refusal") or getattr(part, "refusal", None) or "")


def _usage(usage: Any) -> Usage:
    details = getattr(usage, "completion_tokens_details", None)
    prompt = getattr(usage, "prompt_tokens_details", None)
    return Usage(
        input_tokens=getattr(usage, "prompt_tokens", None) or 0,
        output_tokens=getattr(usage, "completion_tokens", None) or 0,
        total_tokens=getattr(usage, "total_tokens", None) or 0,
        reasoning_tokens=getattr(details, "reasoning_tokens", None) or 0,
        cached_tokens=getattr(prompt, "cached_tokens", None) or 0,
    )


def _cost(litellm: Any, client: Client, response: Any) -> float | None:
    """Return the cost in US dollars, by the user's own prices if the options name them; None if unknown.

    For an unlisted model of a known family litellm returns 0, so only a listed model counts as free.
    """
    cost = getattr(response, "_hidden_params", {}).get("response_cost")
    names = (f"{client.provider}/{client.model}", client.model, response.model)
    is_priced = any("cost_per" in option for option in client.options)
    if cost is None or (
        cost == 0 and not is_priced and not any(name in litellm.model_cost for name in names)
    ):
        return None
    return float(cost)
