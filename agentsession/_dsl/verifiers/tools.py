"""The verifiers of an agent's tools. Each is the claim that it checks; add yours to `TOOL_VERIFIERS`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from agentsession import info
from agentsession._dsl.agent_tools import asked_agent, needs_arguments
from agentsession._dsl.verifiers.agent import AgentDraft
from agentsession._dsl.verifiers.rules import SECONDS, Rule, is_positive, or_none, other_parameters
from agentsession._dsl.verifiers.tool_parameters import (
    LAMBDA,
    verify_tool_functions_take_the_parameters,
    verify_tool_parameters_are_an_object,
    verify_tool_parameters_have_types,
    verify_tool_signatures_are_known,
)
from agentsession._tools.definition import Tool
from agentsession._tools.signature import is_async
from agentsession._tools.tool_options import Tokens
from agentsession.errors import Problem
from agentsession.provider.litellm.tool_calls import FORCED_TOOL

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")


def verify_tools_are_a_list(draft: AgentDraft) -> Iterator[Problem]:
    if not isinstance(draft.tools, (list, tuple)):
        found = f"tools is of the type {type(draft.tools).__name__}, not a list"
        why = "the model is told of them in this order"
        yield Problem(draft.where("tools"), found, why, "tools=[find_orders, …]")


def verify_tools_can_be_called(draft: AgentDraft) -> Iterator[Problem]:
    for each in draft.declared_tools:
        what = each.given.function if isinstance(each.given, Tool) else each.given
        if isinstance(what, type):
            found = f"it is the class {what.__name__}"
            fix = _instead_of(what, "function={}" if isinstance(each.given, Tool) else "tools=[{}]")
        elif not callable(what):
            found = f"it is of the type {type(what).__name__}, which cannot be called"
            fix = "a function, a bound method, a Tool, or another agent's call"
        else:
            continue
        yield Problem(draft.where(each.option), found, "the model's call becomes a call of it", fix)


def verify_tool_methods_are_bound(draft: AgentDraft) -> Iterator[Problem]:
    for each in draft.declared_tools:
        if not each.lacks_its_object:
            continue
        name = each.given.__name__
        if each.is_plain_method:
            fix = f"@classmethod or @staticmethod above def {name}"
        else:
            owner = each.given.__qualname__.rpartition(".")[0].rpartition(".")[2] or "Shop"
            fix = f"pass a bound method: tools=[{owner}().{name}]"
        found = f"{name} is a method without the object that it is called on"
        yield Problem(draft.where(each.option), found, "the model cannot give it its self", fix)


def verify_asked_agents_can_be_asked(draft: AgentDraft) -> Iterator[Problem]:
    for each in draft.declared_tools:
        asked = asked_agent(each.given)
        if asked is None:
            continue
        name = asked.__name__
        if not info.is_agent(asked):
            found, fix = f"{name} has no @agent", f"put @agent(…) above {name}, and {name} above this class"
        elif needs_arguments(info.agent_options(asked)):
            found = f"the instruction of {name} has variables without a value"
            fix = f"a function that returns {name}.call(…, instruction_args={{…}}).output"
        else:
            continue
        yield Problem(draft.where(each.option), found, "the model can only give it its input", fix)


def verify_tool_names_fit(draft: AgentDraft) -> Iterator[Problem]:
    for option, tool in draft.made_tools:
        if tool.name == LAMBDA:
            found = "a lambda has no name"
            fix = 'a function of its own, def find_orders(…), or Tool(name="find_orders", …)'
        elif not isinstance(tool.name, str) or not NAME.fullmatch(tool.name):
            found = f"the name {tool.name!r} does not fit {NAME.pattern}"
            fix = 'name="find_orders", in @tool(…) or Tool(…)'
        elif tool.name == FORCED_TOOL:
            found, fix = f"the name {FORCED_TOOL!r} is litellm's own", "another name"
        else:
            continue
        yield Problem(draft.where(option), found, "providers refuse the request otherwise", fix)


def verify_tool_names_differ(draft: AgentDraft) -> Iterator[Problem]:
    first: dict[Any, str] = {}
    for option, tool in draft.made_tools:
        name = str(tool.name)
        if name in first:
            found = f"{name!r} is the name of {first[name]}, too"
            fix = '@tool(name="…") above one of them, or Tool(name="…", …), or leave one out'
            yield Problem(draft.where(option), found, "the model asks for a tool by its name", fix)
        first.setdefault(name, option)


def verify_tools_are_described(draft: AgentDraft) -> Iterator[Problem]:
    for option, tool in draft.made_tools:
        if not isinstance(tool.description, str) or not tool.description.strip():
            found = f"{tool.name} has no description"
            fix = 'a docstring that says what it does, or description="…"'
            yield Problem(draft.where(option), found, "the model chooses a tool by it", fix)


def verify_tool_options_fit(draft: AgentDraft) -> Iterator[Problem]:
    for option, tool in draft.made_tools:
        for rule in _OPTIONS:
            for found in rule.broken(tool):
                yield Problem(
                    draft.where(option), f"{rule.option} of {tool.name} {found}", rule.why, rule.fix
                )


def verify_tool_option_functions_take_one_value(draft: AgentDraft) -> Iterator[Problem]:
    for option, tool in draft.made_tools:
        for name, value in (("needs_approval", "arguments"), ("result_limit", "result")):
            function = getattr(tool, name)
            other = other_parameters(function, 1) if callable(function) else None
            if other is not None:
                found = f"{name} of {tool.name} takes {other}, not ({value})"
                why = f"it is called with the {value} alone, by position"
                yield Problem(draft.where(option), found, why, f"{name}=lambda {value}: …")


def _instead_of(kind: type, form: str) -> str:
    """What can stand in the place of a class."""
    name = kind.__name__
    if info.is_agent(kind):
        return f"tools=[{name}.call]"
    if any("__call__" in vars(base) for base in kind.__mro__):
        return form.format(f"{name}()")
    public = [(own, raw) for own, raw in vars(kind).items() if not own.startswith("_")]
    for own, raw in public:
        if isinstance(raw, (FunctionType, classmethod, staticmethod)):
            return form.format(f"{name}().{own}" if isinstance(raw, FunctionType) else f"{name}.{own}")
    return f"a function that makes one, or a method of one: {form.format(f'{name}().method')}"


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_decision(value: Any) -> bool:
    return isinstance(value, bool) or (callable(value) and not isinstance(value, type))


def _is_limit(value: Any) -> bool:
    size = value.count if isinstance(value, Tokens) else value
    if isinstance(size, int):
        return not isinstance(size, bool) and size > 0
    is_function = callable(value) and not isinstance(value, type) and not is_async(value)
    return value is None or is_function


def _is_repeat_limit(value: Any) -> bool:
    return (
        value is None
        or value == "auto"
        or (isinstance(value, int) and not isinstance(value, bool) and value > 0)
    )


_LIMIT = "a whole number of bytes from 1, Tokens(n) or a plain function"
_OPTIONS = (
    Rule("timeout", or_none(is_positive), SECONDS, "a call ends after it", "30.0"),
    Rule("idempotent", _is_switch, "True or False", "it says whether a call may be run again", "True"),
    Rule(
        "needs_approval", _is_decision, "True, False or a function", "it says who decides on a call", "True"
    ),
    Rule("sequential", _is_switch, "True or False", "it says whether calls may run side by side", "True"),
    Rule("result_limit", _is_limit, _LIMIT, "it says how much of a result the model is shown", "8_000"),
    Rule(
        "repeat_limit",
        _is_repeat_limit,
        'a whole number from 1, None or "auto"',
        "it says how many calls with equal arguments run in a turn",
        "1",
    ),
)

TOOL_VERIFIERS: tuple[Callable[[AgentDraft], Iterator[Problem]], ...] = (
    verify_tools_are_a_list,
    verify_tools_can_be_called,
    verify_tool_methods_are_bound,
    verify_asked_agents_can_be_asked,
    verify_tool_names_fit,
    verify_tool_names_differ,
    verify_tools_are_described,
    verify_tool_signatures_are_known,
    verify_tool_parameters_have_types,
    verify_tool_parameters_are_an_object,
    verify_tool_functions_take_the_parameters,
    verify_tool_options_fit,
    verify_tool_option_functions_take_one_value,
)
