"""The provider protocol: what a model is asked, and with what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import msgspec

from agentsession.context import ReplyFacts
from agentsession.errors import ProviderError
from agentsession.options import Client, OutputMode
from agentsession.schema import OutputSchema
from agentsession.turn.effects import Reply, View


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    `view` is the conversation as the model is shown it: the system message first if there is one, then
    user and assistant in turns, the user last. `timeout` is in seconds, for the call with its retries.
    `output` says what the reply has to look like, and `output_mode` how the model is asked for it.
    """

    view: View
    client: Client
    output: OutputSchema
    output_mode: OutputMode = "auto"
    timeout: float = 120.0
    retries: int = 2


@runtime_checkable
class Provider(Protocol):
    """Answers a request. Called from any thread; holds no database connection.

    Only `ask` is required. `prepare()` is called before a turn is claimed. The others are used where they are
    there: `stream(request)` gives an iterator of `Delta` values and the whole `Reply` as the last;
    `aask(request)` and `astream(request)` are the same as a coroutine function and as an async iterator.
    An iterator that is left early is closed, which should tell the model's server to stop.
    """

    def ask(self, request: Request) -> Reply:
        """The reply; an exception fails the turn."""
        ...


def checked(reply: Any, duration: float) -> Reply:
    """The reply in plain types, as it can be stored, with the seconds that it took.

    Raises `ProviderError` that says what cannot be stored.
    """
    if not isinstance(reply, Reply):
        raise ProviderError(f"the provider returned a {type(reply).__name__}, not a Reply")
    try:
        if not isinstance(reply.text, str) or not isinstance(reply.thinking, str):
            raise msgspec.ValidationError("its text or thinking is no str")
        given = {name: getattr(reply, name) for name in ReplyFacts.__struct_fields__}
        facts = msgspec.convert({**given, "usage": msgspec.to_builtins(reply.usage)}, ReplyFacts)
        if facts.cost is not None and not math.isfinite(facts.cost):
            raise msgspec.ValidationError(f"its cost is {facts.cost}")
    except (msgspec.ValidationError, TypeError) as error:
        raise ProviderError(f"the provider returned a Reply that cannot be stored: {error}") from error
    return Reply(
        text=str.__str__(reply.text),
        thinking=str.__str__(reply.thinking),
        usage=facts.usage,
        cost=facts.cost,
        model=str.__str__(facts.model),
        finish_reason="".join(facts.finish_reason),
        duration=duration,
        raw=reply.raw,
    )
