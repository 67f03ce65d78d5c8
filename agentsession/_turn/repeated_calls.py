"""Calls that repeat an earlier call of their turn: the same tool with equal arguments.

They are marked before their step is stored, in the same write. So a process that continues the turn after a
crash finds the marks, even if the options of the tool have changed: it reports no call as run that did not
run, and no call as not run that did.
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
"""The arguments of a call as canonical JSON: those of the model, and those that the tool receives."""


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
