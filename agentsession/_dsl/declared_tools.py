"""The tools of an agent as they were declared: listed in `tools=`, or marked in the class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import Parameter, signature
from types import FunctionType, MethodType
from typing import Any
from weakref import proxy

from agentsession._dsl.agent_tools import asked_agent, tool_of_agent
from agentsession._tools.definition import Tool
from agentsession._tools.from_callable import tool_of
from agentsession._tools.marks import mark_of
from agentsession._tools.signature import is_async


@dataclass(frozen=True)
class DeclaredTool:
    """One thing that was declared as a tool, and where it stands: an option, or an attribute of its owner."""

    option: str
    given: Any
    is_plain_method: bool = False
    owner: type | None = None

    @cached_property
    def tool(self) -> Tool | None:
        """None for what a verifier refuses."""
        if isinstance(self.given, Tool):
            return self.given
        if not self.is_callable or self.lacks_its_object:
            return None
        asked = asked_agent(self.given)
        if asked is not None:
            return tool_of_agent(asked, asynchronous=is_async(self.given))
        try:
            made = tool_of(self.given)
        except (ValueError, TypeError):
            return None
        if self.owner is None:
            return made
        return replace(made, function=self._by_name(self.owner, made.is_async))

    def _by_name(self, owner: type, asynchronous: bool) -> Callable[..., Any]:
        """The method as the class has it when it is called. Options that held their own class would keep
        it for ever."""
        model, name = proxy(owner), self.option

        def call(*args: Any, **keywords: Any) -> Any:
            return getattr(model, name)(*args, **keywords)

        async def acall(*args: Any, **keywords: Any) -> Any:
            return await getattr(model, name)(*args, **keywords)

        return acall if asynchronous else call

    @property
    def is_callable(self) -> bool:
        return callable(self.given) and not isinstance(self.given, type)

    @cached_property
    def lacks_its_object(self) -> bool:
        """Is it a method without the object that it is a method of?"""
        if self.is_plain_method or not isinstance(self.given, FunctionType):
            return self.is_plain_method
        try:
            first = next(iter(signature(self.given).parameters.values()), None)
        except (ValueError, TypeError):
            return False
        return first is not None and first.name == "self" and first.annotation is Parameter.empty

    def key(self, model: Any) -> tuple[int, int]:
        """Equal for what is the same tool of this model: a classmethod of a base is its own."""
        if not isinstance(self.given, MethodType):
            return id(self.given), 0
        owner = self.given.__self__
        is_inherited = isinstance(owner, type) and isinstance(model, type) and issubclass(model, owner)
        return id(self.given.__func__), id(model if is_inherited else owner)


def declared_tools(model: Any, tools: Any) -> tuple[DeclaredTool, ...]:
    """Each once, in the order of the list; those of the class behind them."""
    given = tools if isinstance(tools, (list, tuple)) else ()
    found: dict[tuple[int, int], DeclaredTool] = {}
    for each in (*_from_the_list(given), *_from_the_class(model)):
        found.setdefault(each.key(model), each)
    return tuple(found.values())


def _from_the_list(tools: Any) -> Iterator[DeclaredTool]:
    for position, given in enumerate(tools):
        yield DeclaredTool(f"tools[{position}]", given)


def _from_the_class(model: Any) -> Iterator[DeclaredTool]:
    """What is marked along the bases, unless a class nearer to the model has something else by the name."""
    seen: set[str] = set()
    for base in getattr(model, "__mro__", ()):
        for name, raw in vars(base).items():
            if name not in seen and _marked(raw):
                is_plain = isinstance(raw, FunctionType)
                given = raw if is_plain else getattr(model, name)
                yield DeclaredTool(name, given, is_plain_method=is_plain, owner=model)
            seen.add(name)


def _marked(raw: Any) -> bool:
    return isinstance(raw, (FunctionType, classmethod, staticmethod)) and mark_of(raw) is not None
