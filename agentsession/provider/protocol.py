"""The provider protocol: what a model is asked, and with what it answers."""

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
    """One question to a model.

    `prompt` is the conversation as the model receives it: the system message first if there is one, then
    user and assistant in turns, the user last; within a turn, each assistant message with calls and the
    results of its calls. `timeout` is in seconds, for the call with its retries. `output` says what the reply
    has to look like, and `output_mode` how the model is asked for it.

    `tools` are those that the model may call: each has a `name`, a `description` and the JSON `schema` of its
    arguments. What a reply has in `calls` is shown in the next request, with the results. Calls in the prompt
    may name tools that are not there any more.
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
    """Answers a request. Called from any thread; holds no database connection.

    Only `ask` is required. `prepare()` and then `check_client(client)` are called before a turn is claimed:
    what they raise is a `ProviderFailed`, and nothing is stored. The others are used where they are there:
    `stream(request)` gives an iterator of `Delta` values and the whole `Reply` at last; `aask(request)` and
    `astream(request)` are the same as a coroutine function and as an async iterator.
    An iterator that is left early is closed, which should tell the model's server to stop. An iterator of
    `stream` may have a method `abort()`: it is called from another thread when the stream is left, and should
    end the wait for the next piece. Without it, the iterator is closed after that piece.
    """

    def ask(self, request: Request) -> Reply:
        """The reply; an exception fails the turn."""
        ...


def checked(reply: Any, duration: float) -> Reply:
    """The reply in plain types, as it can be stored, with the seconds that it took.

    Raises `ProviderCallError` that says what cannot be stored.
    """
    if not isinstance(reply, Reply):
        raise ProviderCallError(f"the provider returned a {type(reply).__name__}, not a Reply")
    try:
        if not (
            isinstance(reply.text, str) and isinstance(reply.thinking, str) and isinstance(reply.opaque, str)
        ):
            raise msgspec.ValidationError("its text, thinking or opaque is no str")
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
        raise msgspec.ValidationError("its calls are no tuple of ToolCall")
    if not all(isinstance(text, str) for call in calls for text in (call.name, call.arguments)):
        raise msgspec.ValidationError("a call's name or arguments are no str")
    return tuple(ToolCall(str.__str__(call.name), str.__str__(call.arguments)) for call in calls)
