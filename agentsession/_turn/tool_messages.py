"""The messages in which a turn stores its tool calls and their results.

A step is a message of the model with calls. Each result is a message of its own, stored as soon as the call
has ended: a crash later loses no result, and each result is written once. The key of a call,
`turn:step:index`, comes from its position and not from the provider, whose ids may repeat or be missing. So
it needs no column, and it is the same in each run of the turn.
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
    """A stored tool call: its key, the tool's name, and the arguments as the JSON text of the model.

    A `repeated` call does not run, because equal calls of its turn have used up the tool's `repeat_limit`.
    """

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
    """Return the stored results by the keys of their calls."""
    return {
        str(part.get("call")): message
        for message in messages
        if message.role == "tool"
        for part in message.parts(RESULT)
    }


def open_calls(messages: Sequence[Message]) -> tuple[StoredCall, ...]:
    """Return the calls of the latest step that have no result yet."""
    steps = [message for message in messages if is_step(message)]
    if not steps:
        return ()
    results = results_of(messages)
    return tuple(call for call in calls_of(steps[-1]) if call.key not in results)


def step_message(id_: str, turn: Turn, step: int, reply: Reply, client: str, facts: ReplyFacts) -> Message:
    """Return the message that stores a reply with calls, as step number `step` of the turn.

    `client` is the client that can read the reply's opaque data.
    """
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
    """Return the messages that store these results, with the approvals of their calls."""
    messages = []
    for position, result in enumerate(results, context.count):
        part: JsonMap = {"type": RESULT, "call": result.call, "tool": result.tool, "content": result.text}
        if result.shown is not None:
            part["shown"] = result.shown
        metadata: JsonMap = {"outcome": result.outcome}
        if result.duration:
            metadata["duration"] = result.duration
        if result.has_run:
            metadata["has_run"] = True
        if (approval := turn.approval_of(result.call)) is not None:
            metadata["approval"] = approval.decision_summary()
        messages.append(Message(f"{turn.id}:{position}", turn.id, "tool", [part], metadata))
    return tuple(messages)


def prompt_call_id(key: str) -> str:
    """Return the id of a call for providers: nine letters and digits, hashed from its key.

    The strictest provider accepts nothing else (https://docs.mistral.ai/api). The id is the same in every
    prompt, so that prompt caches keep working.
    """
    number = int.from_bytes(sha256(key.encode()).digest()[:8], "big")
    digits = []
    for _ in range(9):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)


def prompt_call(call: StoredCall) -> ToolCall:
    """Return a call in the form that every provider accepts: a plain name, and an object as arguments."""
    name = "".join(letter if _is_plain(letter) else "_" for letter in call.tool)[:64] or "unknown"
    arguments = call.arguments if _is_object(call.arguments) else compact(as_object(call.arguments))
    return ToolCall(name, arguments, prompt_call_id(call.key))


def as_object(arguments: str) -> JsonMap:
    """Return the arguments as a JSON object. Text that is not an object is the value of a key `unread`."""
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
