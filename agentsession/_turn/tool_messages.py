"""The calls of a turn as its messages hold them: what the model asked for, and what came of it.

A step is the model's message with its calls. Each result is a message of its own, so that it can be stored as
soon as it is there. The key of a call, `turn:step:index`, comes from its place alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from agentsession._json_values import JsonMap, compact
from agentsession._turn.effects import ToolResult
from agentsession._turn.model_io import Reply, ToolCall
from agentsession._turn_state import Turn
from agentsession.context import Context, Message, ReplyFacts

CALL, RESULT, OPAQUE = "tool_call", "tool_result", "opaque"
REPEATED_KEY = "repeated"
"""The key in the part of a call that repeats an earlier one."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class StoredCall(msgspec.Struct, frozen=True):
    """A stored call: its key, the tool's name, and the arguments as the JSON text that came. `repeated`: it
    does not run, since equal calls of its turn have used up the `repeat_limit` of the tool."""

    key: str
    tool: str
    arguments: str
    repeated: bool = False


def is_step(message: Message) -> bool:
    return message.role == "assistant" and bool(message.parts(CALL))


def calls_of(message: Message) -> tuple[StoredCall, ...]:
    return tuple(
        StoredCall(
            str(part.get("call", "")),
            str(part.get("tool", "")),
            str(part.get("arguments", "")),
            part.get(REPEATED_KEY) is True,
        )
        for part in message.parts(CALL)
    )


def results_of(messages: Iterable[Message]) -> dict[str, Message]:
    """The stored result of each call, by its key."""
    return {
        str(part.get("call")): message
        for message in messages
        if message.role == "tool"
        for part in message.parts(RESULT)
    }


def open_calls(messages: Sequence[Message]) -> tuple[StoredCall, ...]:
    """The calls of the latest step among these messages that have no result yet."""
    steps = [message for message in messages if is_step(message)]
    if not steps:
        return ()
    results = results_of(messages)
    return tuple(call for call in calls_of(steps[-1]) if call.key not in results)


def step_message(id_: str, turn: Turn, step: int, reply: Reply, client: str, facts: ReplyFacts) -> Message:
    """The model's reply with its calls, as it is stored: the turn's step with this number. `client` is the
    one that can read what is opaque."""
    texts = (("thinking", reply.thinking), ("text", reply.text))
    parts: list[JsonMap] = [{"type": kind, "text": text} for kind, text in texts if text]
    parts += [
        {
            "type": CALL,
            "call": f"{turn.id}:{step}:{index}",
            "tool": call.name,
            "arguments": call.arguments,
        }
        for index, call in enumerate(reply.calls)
    ]
    if reply.opaque:
        parts.append({"type": OPAQUE, "client": client, "data": reply.opaque})
    return Message(id_, turn.id, "assistant", parts, msgspec.to_builtins(facts))


def result_messages(context: Context, turn: Turn, results: Iterable[ToolResult]) -> tuple[Message, ...]:
    """The results of calls, as they are stored, and how a call came to be approved, or not."""
    messages = []
    for position, each in enumerate(results, context.count):
        part: JsonMap = {"type": RESULT, "call": each.call, "tool": each.tool, "content": each.text}
        if each.shown is not None:
            part["shown"] = each.shown
        metadata: JsonMap = {"outcome": each.outcome}
        if each.duration:
            metadata["duration"] = each.duration
        if each.has_run:
            metadata["has_run"] = True
        if (asked := turn.approval_of(each.call)) is not None:
            metadata["approval"] = asked.told()
        messages.append(Message(f"{turn.id}:{position}", turn.id, "tool", [part], metadata))
    return tuple(messages)


def shown_id(key: str) -> str:
    """A call's id as providers take it: nine letters and digits (https://docs.mistral.ai/api wants just
    these), always the same for the same call."""
    number = int.from_bytes(sha256(key.encode()).digest()[:8], "big")
    digits = []
    for _ in range(9):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)


def shown_call(call: StoredCall) -> ToolCall:
    """A call as every provider takes it back: its name of their letters, its arguments an object."""
    name = "".join(letter if _is_plain(letter) else "_" for letter in call.tool)[:64] or "unknown"
    arguments = call.arguments if _is_object(call.arguments) else compact(as_object(call.arguments))
    return ToolCall(name, arguments, shown_id(call.key))


def as_object(arguments: str) -> JsonMap:
    """The arguments as a JSON object; what is none stands inside one."""
    if not arguments.strip():
        return {}
    try:
        return _object(arguments)
    except (msgspec.DecodeError, RecursionError):
        return {"unread": arguments}


def _is_object(arguments: str) -> bool:
    try:
        _object(arguments)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


_object = msgspec.json.Decoder(JsonMap).decode


def _is_plain(letter: str) -> bool:
    return letter.isascii() and (letter.isalnum() or letter in "_-")
