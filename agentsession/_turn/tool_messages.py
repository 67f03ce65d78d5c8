"""The messages in which a turn stores its tool calls and their results, and calls that repeat an earlier one.

A step is a message of the model with calls. Each result is a message of its own, stored as soon as the call
has ended: a crash later loses no result, and each result is written once. The key of a call,
`turn:step:index`, comes from its position and not from the provider, whose ids may repeat or be missing. So
it needs no column, and it is the same in each run of the turn.

A repeated call has the tool and equal arguments of an earlier call of its turn. It is marked before its step
is stored, in the same write. So a process that continues the turn after a crash finds the mark, even if the
options of the tool have changed: it reports no call as run that did not run, and no call as not run that did.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec

from agentsession._json_values import JsonMap, compact
from agentsession._options import AgentOptions
from agentsession._schema import SchemaMismatch
from agentsession._tools.definition import Tool
from agentsession._tools.json_parameters import read_arguments
from agentsession._turn.effects import ToolResult
from agentsession._turn.model_io import Reply, ToolCall
from agentsession._turn_state import Turn
from agentsession.context import Context, Message, ReplyFacts

CALL, RESULT, OPAQUE = "tool_call", "tool_result", "opaque"
REPEATED_KEY = "repeated"
"""The key in the part of a call that repeats an earlier one."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

Forms: TypeAlias = tuple[str, str]
"""The arguments of a call as canonical JSON: those of the model, and those that the tool receives."""


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
        if result.text_for_model is not None:
            part["shown"] = result.text_for_model
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


def mark_repeats(step: Message, earlier: Sequence[Message], agent: AgentOptions) -> Message:
    """Return the step with a mark at each call that must not run.

    Equal calls have used up the `repeat_limit` of its tool. A call of an earlier step counts if it may have
    had an effect. A call of this step counts for the calls after it. `earlier` are the earlier messages of
    the turn.
    """
    repeated = _repeated_keys(step, earlier, agent)
    if not repeated or not isinstance(step.content, list):
        return step
    parts = [{**part, REPEATED_KEY: True} if part.get("call") in repeated else part for part in step.content]
    return msgspec.structs.replace(step, content=parts)


def _repeated_keys(step: Message, earlier: Sequence[Message], agent: AgentOptions) -> set[str]:
    """Return the keys of the calls to mark."""
    before = [call for message in earlier if is_step(message) for call in calls_of(message)]
    latest = calls_of(step)
    called = Counter(call.tool for call in (*before, *latest))
    limits = {
        tool.name: (tool, limit)
        for tool in agent.tools
        if (limit := tool.equal_calls) is not None and called[tool.name] > limit
    }
    if not limits:
        return set()
    known, repeated, results = _KnownCalls(), set[str](), results_of(earlier)
    for call in (call for call in before if call.tool in limits):
        result = results.get(call.key)
        if _may_have_had_an_effect(result):
            known.add(call.tool, _forms(limits[call.tool][0], _arguments(call, result)))
    for call in (call for call in latest if call.tool in limits):
        tool, limit = limits[call.tool]
        forms = _forms(tool, call.arguments)
        if known.count(call.tool, forms) >= limit:
            repeated.add(call.key)
        else:
            known.add(call.tool, forms)
    return repeated


class _KnownCalls:
    """Counts the calls of each tool by their arguments. Two calls are equal if one of their forms is."""

    def __init__(self) -> None:
        self.own: Counter[tuple[str, str]] = Counter()
        self.accepted: Counter[tuple[str, str]] = Counter()
        self.both: Counter[tuple[str, Forms]] = Counter()

    def add(self, tool: str, forms: Forms | None) -> None:
        if forms is not None:
            self.own[tool, forms[0]] += 1
            self.accepted[tool, forms[1]] += 1
            self.both[tool, forms] += 1

    def count(self, tool: str, forms: Forms | None) -> int:
        if forms is None:
            return 0
        return self.own[tool, forms[0]] + self.accepted[tool, forms[1]] - self.both[tool, forms]


def _may_have_had_an_effect(result: Message | None) -> bool:
    """Return False for a call that did not run, and for one whose tool raised an error.

    Most of these errors are temporary, so the model may try such a call again.
    """
    if result is None or result.metadata.get("has_run"):
        return True
    return result.metadata.get("outcome") not in ("failed", "rejected", "repeated")


def _arguments(call: StoredCall, result: Message | None) -> str:
    """Return the arguments with which the call ran: the edited ones if a person has changed them."""
    approval = {} if result is None else result.metadata.get("approval")
    edited = approval.get("edited") if isinstance(approval, dict) else None
    return call.arguments if edited is None else str(edited)


def _forms(tool: Tool, arguments: str) -> Forms | None:
    """Return None for arguments that the tool does not accept: such a call never runs."""
    try:
        accepted = tool.accept(arguments)
        own = _canonical(read_arguments(arguments)[0])
    except SchemaMismatch:
        return None
    plain = tool.plain(accepted)
    return own, _canonical(plain) if _is_faithful(tool, accepted, plain) else own


def _is_faithful(tool: Tool, accepted: dict[str, Any], plain: dict[str, Any]) -> bool:
    """Return whether the plain form identifies the arguments that the tool receives.

    A secret, for example, is masked in the plain form, so that two different secrets would be equal.
    """
    try:
        return bool(tool.accept(json.dumps(plain)) == accepted)
    except Exception:  # the types of a user may raise anything when they are compared
        return False


def _canonical(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"))
