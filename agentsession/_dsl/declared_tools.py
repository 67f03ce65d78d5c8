"""The tools of an agent as they were declared: listed in `tools=`, or marked in the class.

`DeclaredTool.tool` calls the function that makes a `Tool` of a value: one function for each kind of value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import Parameter, cleandoc, signature
from types import FunctionType, MethodType
from typing import Any
from weakref import proxy

from typing_extensions import TypedDict

from agentsession import info
from agentsession._json_values import resolve
from agentsession._options import AgentOptions
from agentsession._prompt import VariableMissing
from agentsession._schema import InputSchema, SchemaMismatch
from agentsession._tools.definition import Tool, snake_case, tool_of
from agentsession._tools.signature import WholeValue, is_async
from agentsession._tools.tool_options import mark_of
from agentsession.actions.mixins import AgentActions

_CALLS = tuple(vars(AgentActions)[name].__func__ for name in ("call", "acall"))


@dataclass(frozen=True)
class DeclaredTool:
    """A value that was declared as a tool.

    `option` says where: an item of `tools`, or the name of an attribute of `owner`.
    """

    option: str
    value: Any
    is_plain_method: bool = False
    owner: type | None = None

    @cached_property
    def tool(self) -> Tool | None:
        """The tool, or None for a value that a verifier refuses."""
        if isinstance(self.value, Tool):
            return self.value
        if not self.is_callable or self.is_unbound:
            return None
        agent = agent_of_call(self.value)
        if agent is not None:
            return tool_of_agent(agent, asynchronous=is_async(self.value))
        try:
            made = tool_of(self.value)
        except (ValueError, TypeError):
            return None
        if self.owner is None:
            return made
        return replace(made, function=self._by_name(self.owner, made.is_async))

    def _by_name(self, owner: type, asynchronous: bool) -> Callable[..., Any]:
        """Return a function that finds the method by its name when it is called.

        It holds the class weakly: options that refer to their own class would keep it alive indefinitely.
        """
        model, name = proxy(owner), self.option

        def call(*args: Any, **keywords: Any) -> Any:
            return getattr(model, name)(*args, **keywords)

        async def acall(*args: Any, **keywords: Any) -> Any:
            return await getattr(model, name)(*args, **keywords)

        return acall if asynchronous else call

    @property
    def is_callable(self) -> bool:
        return callable(self.value) and not isinstance(self.value, type)

    @cached_property
    def is_unbound(self) -> bool:
        """Whether the value is a method without its object."""
        if self.is_plain_method or not isinstance(self.value, FunctionType):
            return self.is_plain_method
        try:
            first = next(iter(signature(self.value).parameters.values()), None)
        except (ValueError, TypeError):
            return False
        return first is not None and first.name == "self" and first.annotation is Parameter.empty

    def key(self, model: Any) -> tuple[int, int]:
        """Return a key that is equal for the same tool. A classmethod of a base is one of the model, too."""
        if not isinstance(self.value, MethodType):
            return id(self.value), 0
        owner = self.value.__self__
        is_inherited = isinstance(owner, type) and isinstance(model, type) and issubclass(model, owner)
        return id(self.value.__func__), id(model if is_inherited else owner)


def declared_tools(model: Any, tools: Any) -> tuple[DeclaredTool, ...]:
    """Return each tool once: those of the list in its order, then the marked ones of the class."""
    listed = tools if isinstance(tools, (list, tuple)) else ()
    found: dict[tuple[int, int], DeclaredTool] = {}
    for each in (*_from_list(listed), *_from_class(model)):
        found.setdefault(each.key(model), each)
    return tuple(found.values())


def _from_list(tools: Any) -> Iterator[DeclaredTool]:
    for position, value in enumerate(tools):
        yield DeclaredTool(f"tools[{position}]", value)


def _from_class(model: Any) -> Iterator[DeclaredTool]:
    """Yield the marked attributes of the class and its bases that no nearer class replaces."""
    seen: set[str] = set()
    for base in getattr(model, "__mro__", ()):
        for name, raw in vars(base).items():
            if name not in seen and _is_marked(raw):
                is_plain = isinstance(raw, FunctionType)
                value = raw if is_plain else getattr(model, name)
                yield DeclaredTool(name, value, is_plain_method=is_plain, owner=model)
            seen.add(name)


def _is_marked(raw: Any) -> bool:
    return isinstance(raw, (FunctionType, classmethod, staticmethod)) and mark_of(raw) is not None


def agent_of_call(value: Any) -> Any:
    """Return the class whose `call` or `acall` the value is, as in `tools=[Researcher.call]`, or None."""
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
        description=cleandoc(model.__doc__ or "") or f"Ask {model.__name__}.",
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
