"""The verifiers of an agent's tools."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from agentsession import info
from agentsession._dsl.declared_tools import agent_of_call, needs_arguments
from agentsession._dsl.drafts import AgentDraft
from agentsession._dsl.verifiers.shared import other_parameters
from agentsession._option_rules import violations
from agentsession._safe_errors import error_message
from agentsession._schema import Schema, unusable
from agentsession._tools.definition import Tool
from agentsession._tools.signature import UNTYPED, Argument, FromSignature, Signature, signature_of
from agentsession._tools.tool_options import ToolOptions
from agentsession.errors import Problem
from agentsession.provider.protocol import RESERVED_TOOL

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")

LAMBDA = "<lambda>"
"""The name of a function without a name."""

CONTEXTS = ("context", "ctx", "tool_context")
"""Names of parameters that probably are the context."""

OBJECT_TYPE = "parameters=… with a pydantic model, dataclass, TypedDict or JSON schema of an object"
OBJECT_SCHEMA = (
    'parameters={"properties": {"customer": {"type": "string"}}, "required": ["customer"]}, or a model'
)


def verify_tools_are_a_list(draft: AgentDraft) -> Iterator[Problem]:
    if not isinstance(draft.tools, (list, tuple)):
        found = f"tools is of the type {type(draft.tools).__name__}, not a list"
        why = "the model gets its tools in this order"
        yield Problem(draft.where("tools"), found, why, "tools=[find_orders, …]")


def verify_tools_can_be_called(draft: AgentDraft) -> Iterator[Problem]:
    for each in draft.declared_tools:
        function = each.value.function if isinstance(each.value, Tool) else each.value
        if isinstance(function, type):
            found = f"it is the class {function.__name__}"
            fix = _instead_of(function, "function={}" if isinstance(each.value, Tool) else "tools=[{}]")
        elif not callable(function):
            found = f"it is of the type {type(function).__name__}, which cannot be called"
            fix = "a function, a bound method, a Tool, or another agent's call"
        else:
            continue
        yield Problem(draft.where(each.option), found, "a call by the model is a call of it", fix)


def verify_tool_methods_are_bound(draft: AgentDraft) -> Iterator[Problem]:
    for each in draft.declared_tools:
        if not each.is_unbound:
            continue
        name = each.value.__name__
        if each.is_plain_method:
            fix = f"@classmethod or @staticmethod above def {name}"
        else:
            owner = each.value.__qualname__.rpartition(".")[0].rpartition(".")[2] or "Shop"
            fix = f"pass a bound method: tools=[{owner}().{name}]"
        found = f"{name} is a method without its object"
        yield Problem(draft.where(each.option), found, "the model has no value for `self`", fix)


def verify_called_agents_need_only_an_input(draft: AgentDraft) -> Iterator[Problem]:
    for each in draft.declared_tools:
        callee = agent_of_call(each.value)
        if callee is None:
            continue
        name = callee.__name__
        if not info.is_agent(callee):
            found, fix = f"{name} has no @agent", f"put @agent(…) above {name}, and {name} above this class"
        elif needs_arguments(info.agent_options(callee)):
            found = f"the instruction of {name} has variables without a value"
            fix = f"a function that returns {name}.call(…, instruction_args={{…}}).output"
        else:
            continue
        yield Problem(draft.where(each.option), found, "the model passes only the input", fix)


def verify_tool_names_fit(draft: AgentDraft) -> Iterator[Problem]:
    for option, tool in draft.made_tools:
        if tool.name == LAMBDA:
            found = "a lambda has no name"
            fix = 'a function of its own, def find_orders(…), or Tool(name="find_orders", …)'
        elif not isinstance(tool.name, str) or not NAME.fullmatch(tool.name):
            found = f"the name {tool.name!r} does not fit {NAME.pattern}"
            fix = 'name="find_orders", in @tool(…) or Tool(…)'
        elif tool.name == RESERVED_TOOL:
            found, fix = f"the name {RESERVED_TOOL!r} is reserved for structured output", "another name"
        else:
            continue
        yield Problem(draft.where(option), found, "providers refuse the request otherwise", fix)


def verify_tool_names_differ(draft: AgentDraft) -> Iterator[Problem]:
    first: dict[Any, str] = {}
    for option, tool in draft.made_tools:
        name = str(tool.name)
        if name in first:
            found = f"{name!r} is also the name of {first[name]}"
            fix = '@tool(name="…") above one of them, or Tool(name="…", …), or leave one out'
            yield Problem(draft.where(option), found, "the model calls a tool by its name", fix)
        first.setdefault(name, option)


def verify_tools_are_described(draft: AgentDraft) -> Iterator[Problem]:
    for option, tool in draft.made_tools:
        if not isinstance(tool.description, str) or not tool.description.strip():
            found = f"{tool.name} has no description"
            fix = 'a docstring that says what it does, or description="…"'
            yield Problem(draft.where(option), found, "the model chooses a tool by its description", fix)


def verify_tool_signatures_are_known(draft: AgentDraft) -> Iterator[Problem]:
    for each in draft.declared_tools:
        if not each.is_callable or each.is_unbound or agent_of_call(each.value) is not None:
            continue
        try:
            signature = signature_of(each.value)
        except (ValueError, TypeError):
            found = "Python does not know its signature"
            fix = "write a function with type hints that calls it"
        else:
            if signature.star is None:
                continue
            found = f"it takes *{signature.star}"
            fix = f"make the parameter a list: {signature.star}: list[str]"
        why = "the model passes each argument by its name"
        yield Problem(draft.where(each.option), found, why, fix)


def verify_tool_parameters_have_types(draft: AgentDraft) -> Iterator[Problem]:
    why = "the model gets the type, and its arguments are validated with it"
    for option, tool in draft.made_tools:
        for argument in _arguments(tool):
            found = _flaw(argument)
            if found is not None:
                fix = _typed(tool, argument)
                yield Problem(draft.where(option), f"the parameter {argument.name} {found}", why, fix)


def verify_tool_parameters_are_an_object(draft: AgentDraft) -> Iterator[Problem]:
    for option, tool in draft.made_tools:
        if any(_flaw(argument) for argument in _arguments(tool)):
            continue
        try:
            tool.schema  # noqa: B018
        except Exception as error:
            found = f"there is no JSON schema of its parameters: {error_message(error).splitlines()[0]}"
            fix = OBJECT_SCHEMA if isinstance(tool.parameters, dict) else OBJECT_TYPE
            yield Problem(draft.where(option), found, "the model gets the schema of the arguments", fix)


def verify_tool_functions_take_the_parameters(draft: AgentDraft) -> Iterator[Problem]:
    """`Tool` takes the parameters and the function separately, so they may disagree."""
    for option, tool in draft.made_tools:
        signature = _own_signature(tool)
        if signature is None:
            continue
        for found in _disagreements(tool, signature):
            fix = "the same names in parameters= and in the function"
            yield Problem(draft.where(option), found, "each field becomes an argument of the function", fix)


def verify_tool_options_fit(draft: AgentDraft) -> Iterator[Problem]:
    for option, tool in draft.made_tools:
        for name, found, why, fix in violations(ToolOptions, tool):
            yield Problem(draft.where(option), f"{name} of {tool.name} {found}", why, fix)


def verify_tool_option_functions_take_one_value(draft: AgentDraft) -> Iterator[Problem]:
    for option, tool in draft.made_tools:
        for name, value in (("needs_approval", "arguments"), ("result_limit", "result")):
            function = getattr(tool, name)
            other = other_parameters(function, 1) if callable(function) else None
            if other is not None:
                found = f"{name} of {tool.name} takes {other}, not ({value})"
                why = f"it is called with the {value}, by position"
                yield Problem(draft.where(option), found, why, f"{name}=lambda {value}: …")


def _instead_of(kind: type, form: str) -> str:
    """Return what the user can write in place of a class."""
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


def _arguments(tool: Tool) -> Iterator[Argument]:
    if isinstance(tool.parameters, FromSignature):
        yield from tool.parameters.signature.arguments


def _flaw(argument: Argument) -> str | None:
    if argument.reason is not None:
        return f"has a type that cannot be resolved: {argument.reason}"
    if argument.hint is UNTYPED:
        return "has no type"
    reason = unusable(argument.hint, Schema)
    return None if reason is None else f"has a type that pydantic cannot use: {reason}"


def _typed(tool: Tool, argument: Argument) -> str:
    """Return the parameter with a type. A lambda cannot have types, so it gets a name."""
    name = "find_orders" if tool.name == LAMBDA else tool.name
    is_context = argument.name in CONTEXTS and (argument.reason is None or "ToolContext" in argument.reason)
    if is_context and argument.hint is UNTYPED:
        return f"def {name}(…, {argument.name}: ToolContext, …), with `from agentsession import ToolContext`"
    fix = f"def {name}(…, {argument.name}: str, …), or any type that pydantic can validate"
    if argument.reason is not None:
        fix += ", with names that are defined at the top of the module when the class is"
    return fix


def _own_signature(tool: Tool) -> Signature | None:
    if isinstance(tool.parameters, FromSignature) or not callable(tool.function):
        return None
    try:
        tool.schema  # noqa: B018
        return signature_of(tool.function)
    except Exception:
        return None


def _disagreements(tool: Tool, signature: Signature) -> Iterator[str]:
    fields = tool.argument_names
    arguments = {argument.name: argument for argument in signature.arguments}
    for name in sorted(fields - arguments.keys()):
        if signature.more is None or name in signature.hidden:
            yield f"the function of {tool.name} has no parameter {name!r}"
    for name, argument in arguments.items():
        if argument.default is inspect.Parameter.empty and name not in fields:
            yield f"the function of {tool.name} requires {name!r}, which is not a field of the parameters"


TOOL_VERIFIERS: tuple[Callable[[AgentDraft], Iterator[Problem]], ...] = (
    verify_tools_are_a_list,
    verify_tools_can_be_called,
    verify_tool_methods_are_bound,
    verify_called_agents_need_only_an_input,
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
