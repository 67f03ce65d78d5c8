"""The verifiers of the parameters of tools. They are part of `TOOL_VERIFIERS`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from agentsession._dsl.agent_tools import agent_of_call
from agentsession._dsl.drafts import AgentDraft
from agentsession._schema import Schema, unusable
from agentsession._tools.definition import Tool
from agentsession._tools.signature import UNTYPED, Argument, FromSignature, Signature, signature_of
from agentsession._tracebacks import error_message
from agentsession.errors import Problem

LAMBDA = "<lambda>"
"""The name of a function without a name."""

CONTEXTS = ("context", "ctx", "tool_context")
"""Names of parameters that probably are the context."""

OBJECT_TYPE = "parameters=… with a pydantic model, dataclass, TypedDict or JSON schema of an object"
OBJECT_SCHEMA = (
    'parameters={"properties": {"customer": {"type": "string"}}, "required": ["customer"]}, or a model'
)


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
    """A `Tool` has its parameters and its function apart, so that they may disagree."""
    for option, tool in draft.made_tools:
        signature = _own_signature(tool)
        if signature is None:
            continue
        for found in _disagreements(tool, signature):
            fix = "the same names in parameters= and in the function"
            yield Problem(draft.where(option), found, "each field becomes an argument of the function", fix)


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
