"""Which calls repeat an earlier call of their turn: the same tool, with equal arguments.

This is decided from the stored messages, before the step with the calls is stored, and stored with it: so a
process that continues the step after a crash finds the decision, even if the tool has other options by then.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from agentsession._options import AgentOptions
from agentsession._schema import SchemaMismatch
from agentsession._tools.definition import Tool
from agentsession._tools.json_parameters import read_arguments
from agentsession._turn.tool_messages import REPEATED_KEY, StoredCall, calls_of, is_step, results_of
from agentsession.context import Message

Forms: TypeAlias = tuple[str, str]
"""The arguments of a call as canonical JSON: as the model gave them, and as the tool is given them."""


def with_repeats_marked(step: Message, said: Sequence[Message], agent: AgentOptions) -> Message:
    """The step with a mark at each call that must not run, because equal calls have used up the
    `repeat_limit` of their tool. `said` are the earlier messages of the turn.

    A call of an earlier step counts if it may have had an effect. A call of this step counts for the calls
    behind it.
    """
    repeated = _repeated(step, said, agent)
    if not repeated or not isinstance(step.content, list):
        return step
    parts = [{**part, REPEATED_KEY: True} if part.get("call") in repeated else part for part in step.content]
    return msgspec.structs.replace(step, content=parts)


def _repeated(step: Message, said: Sequence[Message], agent: AgentOptions) -> set[str]:
    """The keys of the calls to mark."""
    earlier = [call for message in said if is_step(message) for call in calls_of(message)]
    latest = calls_of(step)
    called = Counter(call.tool for call in (*earlier, *latest))
    limits = {
        tool.name: (tool, limit)
        for tool in agent.tools
        if (limit := tool.equal_calls) is not None and called[tool.name] > limit
    }
    if not limits:
        return set()
    known, repeated, results = _Known(), set[str](), results_of(said)
    for call in (call for call in earlier if call.tool in limits):
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


class _Known:
    """How many calls of each tool have these arguments. Two calls are equal if one of their forms is."""

    def __init__(self) -> None:
        self.given: Counter[tuple[str, str]] = Counter()
        self.accepted: Counter[tuple[str, str]] = Counter()
        self.both: Counter[tuple[str, Forms]] = Counter()

    def add(self, tool: str, forms: Forms | None) -> None:
        if forms is not None:
            self.given[tool, forms[0]] += 1
            self.accepted[tool, forms[1]] += 1
            self.both[tool, forms] += 1

    def count(self, tool: str, forms: Forms | None) -> int:
        if forms is None:
            return 0
        return self.given[tool, forms[0]] + self.accepted[tool, forms[1]] - self.both[tool, forms]


def _may_have_had_an_effect(result: Message | None) -> bool:
    """False for a call that did not run, and for one whose tool raised an error: the model may try that
    again."""
    if result is None or result.metadata.get("has_run"):
        return True
    return result.metadata.get("outcome") not in ("failed", "rejected", "repeated")


def _arguments(call: StoredCall, result: Message | None) -> str:
    """The arguments with which the call ran: the edited ones, where a person has changed them."""
    approval = {} if result is None else result.metadata.get("approval")
    edited = approval.get("edited") if isinstance(approval, dict) else None
    return call.arguments if edited is None else str(edited)


def _forms(tool: Tool, arguments: str) -> Forms | None:
    """None for arguments that the tool does not accept: such a call never runs."""
    try:
        accepted = tool.accept(arguments)
        given = _canonical(read_arguments(arguments)[0])
    except SchemaMismatch:
        return None
    plain = tool.plain(accepted)
    return given, _canonical(plain) if _is_faithful(tool, accepted, plain) else given


def _is_faithful(tool: Tool, accepted: dict[str, Any], plain: dict[str, Any]) -> bool:
    """Return whether the plain form says all that the tool is given. A secret, for example, is asterisks in
    it, so that two different secrets would be equal."""
    try:
        return bool(tool.accept(json.dumps(plain)) == accepted)
    except Exception:  # a comparison of the user's own types may raise anything
        return False


def _canonical(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"))
