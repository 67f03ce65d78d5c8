"""Another agent as a tool: `tools=[Researcher.call]`."""

from __future__ import annotations

import inspect
from types import MethodType
from typing import Any

from typing_extensions import TypedDict

from agentsession import info
from agentsession._json_values import resolve
from agentsession._options import AgentOptions
from agentsession._prompt import VariableMissing
from agentsession._schema import InputSchema, SchemaMismatch
from agentsession._tools.definition import Tool
from agentsession._tools.from_callable import snake_case
from agentsession._tools.signature import WholeValue
from agentsession.actions.mixins import AgentActions

_CALLS = tuple(vars(AgentActions)[name].__func__ for name in ("call", "acall"))


def agent_of_call(value: Any) -> Any:
    """Return the class whose `call` or `acall` the value is, or None."""
    if isinstance(value, MethodType) and value.__func__ in _CALLS and isinstance(value.__self__, type):
        return value.__self__
    return None


def needs_arguments(options: AgentOptions) -> bool:
    """Return whether `call` fails without `instruction_args`."""
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
    """Return a tool that calls the agent and returns its output. None for a class that is not an agent."""
    if not info.is_agent(model):
        return None

    def call(input: Any) -> Any:
        return model.call(input).output

    async def acall(input: Any) -> Any:
        return (await model.acall(input)).output

    return Tool(
        name=snake_case(model.__name__),
        description=inspect.cleandoc(model.__doc__ or "") or f"Ask {model.__name__}.",
        parameters=_parameters(info.agent_options(model).input),
        function=acall if asynchronous else call,
    )


def _parameters(input: InputSchema) -> Any:
    """Return the input itself if it is an object, else an object with the field `input`."""
    schema = input.adapter.json_schema()
    if resolve(schema, schema).get("type") == "object":
        return WholeValue(input.type)
    make: Any = TypedDict
    return make("Input", {"input": input.type})
