"""The prompt, the reply of a model, and the texts that the library itself writes to a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import msgspec

from agentsession._json_values import compact, storable_text
from agentsession._options import AgentOptions
from agentsession._turn_state import ApprovalState, Usage
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


SILENT = "(no text)"
BEGINNING = "(The conversation begins.)"
ENDED = "(This was not answered.)"
UNKNOWN = "It is not known whether this call was carried out: its process ended before the result was stored."
NOT_RUN = "This call was not carried out."
REPEATED = (
    "This call was not carried out, because it repeats an earlier call of this turn: the same tool with "
    "equal arguments. Use the result of that call."
)
NOT_PREPARED = "It has run. Its result is not shown, since the turn was stopped."
LEFT_OUT = "This call was carried out. Its result is left out, since the turn failed afterwards."

MAX_NAMES = 20
"""The number of tool names in a list."""


def no_such_tool(agent: AgentOptions, name: str) -> str:
    names = ", ".join(tool.name for tool in agent.tools[:MAX_NAMES])
    return f"There is no tool {compact(name)}. " + (f"There are: {names}" if names else "There are no tools.")


def rejection(approval: ApprovalState) -> str:
    reason = f": {approval.reason}" if approval.reason else "."
    return f"The call was rejected, and not carried out{reason}"


def with_edited(arguments: str, result: str) -> str:
    """Return the result with the edited arguments, which the model did not choose."""
    return f"(The call was approved with other arguments: {arguments})\n{result}"


def too_large(size: int) -> str:
    return f"It has run, but its result of {size:,} bytes does not fit into the session (max_context_bytes)."


def timeout_text(seconds: float) -> str:
    return f"It did not end within {seconds:g} s, and may still be running."
