"""The values that are exchanged with a model: the prompt, its messages, and the reply."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import msgspec

from agentsession._json_values import storable_text
from agentsession._turn_state import Usage
from agentsession.context import ReplyFacts


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call of a reply: the tool's name, and the arguments as the JSON text that was received.

    `id` is set in a prompt only. It has 9 letters and digits, which every provider accepts.
    """

    name: str
    arguments: str = "{}"
    id: str = ""


class PromptMessage(msgspec.Struct, frozen=True):
    """One message of a prompt, with the role `system`, `user`, `assistant` or `tool`.

    An assistant message may have `calls`. Each is followed, in order, by one message of the role `tool` whose
    `call` is the id of the call. `opaque` is data that the provider returned with that reply and needs again.
    """

    role: str
    content: str
    calls: tuple[ToolCall, ...] = ()
    call: str = ""
    opaque: str = ""


Prompt: TypeAlias = tuple[PromptMessage, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed reply, or all pieces that were received so far."""

    text: str = ""
    thinking: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.thinking)


NO_DELTA = Delta()


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of a provider.

    `calls` are the tool calls of the reply. `opaque` is JSON text that the provider needs again together with
    these calls, for example signatures of its thinking. Only the same client receives it. `cost` is in US
    dollars, None if it is unknown. `raw` is the provider's own response.
    """

    text: str
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    opaque: str = ""
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    model: str = ""
    finish_reason: str = ""
    duration: float = 0.0
    raw: Any = None

    def facts(self) -> ReplyFacts:
        """Return what the reply has cost, in plain types.

        Raises `msgspec.ValidationError` or `TypeError` for values that cannot be stored.
        """
        values = {name: getattr(self, name) for name in ReplyFacts.__struct_fields__}
        facts = msgspec.convert({**values, "usage": msgspec.to_builtins(self.usage)}, ReplyFacts)
        if facts.cost is not None and not math.isfinite(facts.cost):
            raise msgspec.ValidationError(f"its cost is {facts.cost}")
        return facts

    def storable(self) -> Reply:
        """Return the reply with texts that every database can store."""
        texts = (self.text, self.thinking, self.model, self.finish_reason, self.opaque)
        storable = tuple(map(storable_text, texts))
        calls = tuple(
            ToolCall(storable_text(call.name), storable_text(call.arguments)) for call in self.calls
        )
        if storable == texts and calls == self.calls:
            return self
        text, thinking, model, finish_reason, opaque = storable
        return replace(
            self,
            text=text,
            thinking=thinking,
            model=model,
            finish_reason=finish_reason,
            opaque=opaque,
            calls=calls,
        )
