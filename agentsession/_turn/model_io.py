"""What a model is shown, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import msgspec

from agentsession._json_values import storable_text
from agentsession._turn_state import Usage
from agentsession.context import ReplyFacts


class ToolCall(msgspec.Struct, frozen=True):
    """What a reply asks for: a tool, by its name, and its arguments as the JSON text that came.

    `id` is ours where the model is shown a call (9 letters and digits, which every provider takes), and
    nobody's in a reply.
    """

    name: str
    arguments: str = "{}"
    id: str = ""


class PromptMessage(msgspec.Struct, frozen=True):
    """One message as the model is shown it: of the role `system`, `user`, `assistant` or `tool`.

    An assistant may ask for `calls`; each is then answered by one message of the role `tool`, in order, whose
    `call` is the id of the call. `opaque` is what the provider itself gave with that reply and wants back.
    """

    role: str
    content: str
    calls: tuple[ToolCall, ...] = ()
    call: str = ""
    opaque: str = ""


Prompt: TypeAlias = tuple[PromptMessage, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a reply as it comes, or all pieces that came so far."""

    text: str = ""
    thinking: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.thinking)


NO_DELTA = Delta()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider answered. `cost` is in US dollars, None where unknown; `raw` is its own response.

    `calls` are the tools that the model asks for. `opaque` is JSON text that the provider wants to see again
    with these calls (signatures of its thinking, say): it is shown to the same provider and model only.
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
        """What it has cost, in plain types; raises `msgspec.ValidationError` or `TypeError` for what cannot
        be stored."""
        given = {name: getattr(self, name) for name in ReplyFacts.__struct_fields__}
        facts = msgspec.convert({**given, "usage": msgspec.to_builtins(self.usage)}, ReplyFacts)
        if facts.cost is not None and not math.isfinite(facts.cost):
            raise msgspec.ValidationError(f"its cost is {facts.cost}")
        return facts

    def storable(self) -> Reply:
        """The same with texts that every database keeps."""
        said = (self.text, self.thinking, self.model, self.finish_reason, self.opaque)
        stored = tuple(map(storable_text, said))
        calls = tuple(
            ToolCall(storable_text(call.name), storable_text(call.arguments)) for call in self.calls
        )
        if stored == said and calls == self.calls:
            return self
        text, thinking, model, finish_reason, opaque = stored
        return replace(
            self,
            text=text,
            thinking=thinking,
            model=model,
            finish_reason=finish_reason,
            opaque=opaque,
            calls=calls,
        )
