"""The provider protocol: a request and its reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import msgspec

from agentsession._options import Client, OutputMode
from agentsession._schema import OutputSchema
from agentsession._tools.definition import Tool
from agentsession._turn.model_io import Prompt, Reply, ToolCall
from agentsession.errors import ProviderCallError

RESERVED_TOOL = "json_tool_call"
"""The name of the tool by which litellm asks some models for structured output. No other tool may have it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One model call.

    Attributes:
        prompt: The conversation: the system message first if there is one, then user and assistant in turns,
            the user last. Within a turn, each assistant message with calls is followed by the results of its
            calls. Calls in the prompt may name tools that no longer exist.
        client: The client, with its `id`, `model` and `options`.
        output: The output schema of the agent.
        output_mode: How the model is asked for structured output: `auto`, `schema` or `prompt`.
        timeout: Seconds for the call, its retries included.
        retries: How many times a failed call may be repeated.
        tools: The tools that the model may call. Each has a `name`, a `description` and the JSON `schema` of
            its arguments.
    """

    prompt: Prompt
    client: Client
    output: OutputSchema
    output_mode: OutputMode = "auto"
    timeout: float = 120.0
    retries: int = 2
    tools: tuple[Tool, ...] = ()


@runtime_checkable
class Provider(Protocol):
    """Answers requests. It is called from any thread and holds no database connection.

    Only `ask` is required. These methods are used if they exist:

    - `prepare()` and then `check_client(client)` run before a turn is claimed. If they raise, the action
      raises `ProviderFailed`, and nothing is stored.
    - `stream(request)` returns an iterator of `Delta` values that ends with the whole `Reply`.
    - `aask(request)` and `astream(request)` are the same for an event loop.

    An iterator whose reader leaves is closed, which should end the request to the model's server. An iterator
    of `stream` may have a method `abort()`. It is called from another thread when the reader leaves, and
    should end the wait for the next piece. Without it the iterator is closed after that piece.
    """

    def ask(self, request: Request) -> Reply:
        """Return the reply. An exception fails the turn."""
        ...


def checked(reply: Any, duration: float) -> Reply:
    """Return the reply in plain types, as it can be stored, with its duration in seconds.

    Raises `ProviderCallError` if a part of it cannot be stored.
    """
    if not isinstance(reply, Reply):
        raise ProviderCallError(f"the provider returned a {type(reply).__name__}, not a Reply")
    try:
        if not (
            isinstance(reply.text, str) and isinstance(reply.thinking, str) and isinstance(reply.opaque, str)
        ):
            raise msgspec.ValidationError("its text, thinking or opaque is not a str")
        facts = reply.facts()
        calls = () if reply.calls == () else _plain_calls(reply)
    except (msgspec.ValidationError, TypeError) as error:
        raise ProviderCallError(f"the provider returned a Reply that cannot be stored: {error}") from error
    return Reply(
        text=str.__str__(reply.text),
        thinking=str.__str__(reply.thinking),
        calls=calls,
        opaque=str.__str__(reply.opaque),
        usage=facts.usage,
        cost=facts.cost,
        model=str.__str__(facts.model),
        finish_reason="".join(facts.finish_reason),
        duration=duration,
        raw=reply.raw,
    )


def _plain_calls(reply: Reply) -> tuple[ToolCall, ...]:
    calls: Any = reply.calls
    if not isinstance(calls, (tuple, list)) or not all(isinstance(call, ToolCall) for call in calls):
        raise msgspec.ValidationError("its calls are not a tuple of ToolCall")
    if not all(isinstance(text, str) for call in calls for text in (call.name, call.arguments)):
        raise msgspec.ValidationError("the name or the arguments of a call are not a str")
    return tuple(ToolCall(str.__str__(call.name), str.__str__(call.arguments)) for call in calls)
