"""Another agent as a tool: `tools=[Researcher.call]`."""

from __future__ import annotations

import inspect
from types import MethodType
from typing import Any

from typing_extensions import TypedDict

from agentsession import info
from agentsession._json_schema import resolve
from agentsession._options import AgentOptions
from agentsession._prompt import VariableMissing
from agentsession._schema import InputSchema, SchemaMismatch
from agentsession._tools.definition import Tool
from agentsession._tools.from_callable import snake_case
from agentsession._tools.signature import WholeValue
from agentsession.actions.mixins import AgentActions

_ASKING = tuple(vars(AgentActions)[name].__func__ for name in ("call", "acall"))


def asked_agent(given: Any) -> Any:
    """The class whose `call` or `acall` this is, or None."""
    if isinstance(given, MethodType) and given.__func__ in _ASKING and isinstance(given.__self__, type):
        return given.__self__
    return None


def needs_arguments(options: AgentOptions) -> bool:
    """Would `call` without `instruction_args` fail?"""
    if not options.template.has_variables:
        return False
    schema = options.instruction_schema
    try:
        args = schema.dump(schema.load({}))
        options.template.render(args if isinstance(args, dict) else {})
    except (SchemaMismatch, VariableMissing):
        return True
    return False


def tool_of_agent(model: Any, *, asynchronous: bool) -> Tool | None:
    """A tool that asks the agent and gives its output; None for a class that is no agent."""
    if not info.is_agent(model):
        return None

    def ask(input: Any) -> Any:
        return model.call(input).output

    async def aask(input: Any) -> Any:
        return (await model.acall(input)).output

    return Tool(
        name=snake_case(model.__name__),
        description=inspect.cleandoc(model.__doc__ or "") or f"Ask {model.__name__}.",
        parameters=_parameters(info.agent_options(model).input),
        function=aask if asynchronous else ask,
    )


def _parameters(input: InputSchema) -> Any:
    schema = input.adapter.json_schema()
    if resolve(schema, schema).get("type") == "object":
        return WholeValue(input.type)
    make: Any = TypedDict
    return make("Input", {"input": input.type})
