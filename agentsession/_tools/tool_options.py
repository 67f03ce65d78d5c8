"""The options of a tool: the fields of `Tool`, and `@tool`, which keeps them in an attribute of a function.

A field has the rule of its value. To add an option, write the field here, and the keyword in the signature
and the docstring of `@tool`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, overload

from agentsession._json_values import JsonMap
from agentsession._option_rules import UNSET, Rule, duration, is_count, keywords_of, suggestion, switch
from agentsession._tools.signature import is_async

F = TypeVar("F")

ATTRIBUTE = "__agentsession_tool__"

BYTES_PER_TOKEN = 4
"""An estimate: English prose has about four bytes a token, other languages and code have fewer."""


@dataclass(frozen=True)
class Tokens:
    """A `result_limit` in tokens, counted as four bytes each: an estimate, equal for every model.

    Args:
        count: Number of tokens, from 1.

    Example:
        ```python
        @tool(result_limit=Tokens(2_000))
        def read_page(url: str) -> str:
            \"\"\"Read a page of the web.\"\"\"
            return "…"
        ```
    """

    count: int

    @property
    def bytes(self) -> int:
        """The size in bytes of a text with that number of tokens."""
        return self.count * BYTES_PER_TOKEN


RepeatLimit: TypeAlias = int | Literal["auto"] | None
ResultLimit: TypeAlias = int | Tokens | Callable[[Any], Any] | None


def _is_decision(value: Any) -> bool:
    return isinstance(value, bool) or (callable(value) and not isinstance(value, type))


def _is_result_limit(value: Any) -> bool:
    if isinstance(value, (int, Tokens)):
        return is_count(value.count if isinstance(value, Tokens) else value)
    return value is None or (callable(value) and not isinstance(value, type) and not is_async(value))


def _is_repeat_limit(value: Any) -> bool:
    return value is None or value == "auto" or is_count(value)


@dataclass(frozen=True, eq=False, kw_only=True)
class ToolOptions:
    """The options of a tool."""

    timeout: Annotated[float | None, duration("a call ends after it", optional=True)] = None
    idempotent: Annotated[bool, switch("it says whether a call may run again", "True")] = False
    needs_approval: Annotated[
        bool | Callable[[JsonMap], Any],
        Rule(_is_decision, "True, False or a function", "it says which calls a person approves", "True"),
    ] = False
    sequential: Annotated[bool, switch("it says whether calls may run at the same time", "True")] = False
    result_limit: Annotated[
        ResultLimit,
        Rule(
            _is_result_limit,
            "a whole number of bytes from 1, Tokens(n) or a plain function",
            "it limits how much of a result the model is shown",
            "8_000",
        ),
    ] = None
    repeat_limit: Annotated[
        RepeatLimit,
        Rule(
            _is_repeat_limit,
            'a whole number from 1, None or "auto"',
            "it says how many calls with equal arguments run in a turn",
            "1",
        ),
    ] = "auto"

    @property
    def equal_calls(self) -> int | None:
        """The number of calls with equal arguments that may run in one turn; None for no limit."""
        if self.repeat_limit != "auto":
            return self.repeat_limit
        return None if self.idempotent else 1


def options_of(options: ToolOptions) -> JsonMap:
    """Return the options by name, without what a subclass adds."""
    return {field.name: getattr(options, field.name) for field in fields(ToolOptions)}


@dataclass(frozen=True, kw_only=True)
class Mark(ToolOptions):
    """The options of `@tool`. None stands for the name and the description of the function itself."""

    name: str | None = None
    description: str | None = None


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    idempotent: bool = False,
    needs_approval: bool | Callable[[JsonMap], Any] = False,
    sequential: bool = False,
    result_limit: ResultLimit = None,
    repeat_limit: RepeatLimit = "auto",
) -> Callable[[F], F]: ...
@overload
def tool(function: F, /) -> F: ...
def tool(function: Any = UNSET, /, **options: Any) -> Any:
    """Mark a function as a tool, with options. It can be called and tested as before.

    A marked classmethod or staticmethod of an agent's class is one of its tools. Any other function becomes a
    tool by `@agent(tools=[…])`, and needs the mark only for its options. The decorator stands above or below
    `@classmethod` and `@staticmethod`. `@agent` verifies the options.

    Args:
        name: The tool's name. Default: the name of the function.
        description: What the model reads about the tool. Default: the docstring of the function.
        timeout: Seconds for one call. Default: the `tool_timeout` of the agent.
        idempotent: `True` if a call may run again when a crash leaves it unknown whether it ran. Default:
            False.
        needs_approval: `True`, or a function of the arguments (a dict) that returns it: a person approves the
            call before it runs. Default: False.
        sequential: `True` if no other call of the same reply may run at the same time. Default: False.
        result_limit: How much of a result the model is shown: a number of bytes, `Tokens(n)`, or a function
            that takes the result and returns what the model is shown. All of the result is stored. Default:
            None, no limit.
        repeat_limit: Number of calls with equal arguments that run in one turn; the model learns that a
            further one did not run. None is no limit. Default: `"auto"`, 1 for a plain tool and no limit for
            an idempotent one.

    Returns:
        The function itself.

    Raises:
        TypeError: There is no such option, or the value below the decorator is not a function.

    Example:
        ```python
        from agentsession import tool

        @tool(idempotent=True, result_limit=8_000)
        def find_orders(customer: str, limit: int = 10) -> list[str]:
            \"\"\"Find the latest orders of a customer.

            Args:
                customer: The customer's number.
            \"\"\"
            return [f"order of {customer}"][:limit]

        assert find_orders("C-7") == ["order of C-7"]
        ```
    """
    known = keywords_of(tool)
    for name in options.keys() - known.keys():
        raise TypeError(f"@tool has no option {name!r}: {suggestion(name, known)}")
    mark = Mark(**options)
    return partial(_put, mark) if function is UNSET else _put(mark, function)


def mark_of(function: Any) -> Mark | None:
    """Return the mark of a function, of the function of a partial, or of a method."""
    while isinstance(function, partial) and ATTRIBUTE not in vars(function):
        function = function.func
    found = getattr(getattr(function, "__func__", function), ATTRIBUTE, None)
    return found if isinstance(found, Mark) else None


def _put(mark: Mark, function: Any) -> Any:
    marked = function.__func__ if isinstance(function, (classmethod, staticmethod)) else function
    if not callable(marked):
        found = f"@tool stands on a value of the type {type(marked).__name__}"
        raise TypeError(f"{found}, which cannot be called")
    try:
        setattr(marked, ATTRIBUTE, mark)
    except AttributeError:
        kind = type(marked).__name__
        found = f"a value of the type {kind} cannot be marked"
        raise TypeError(f"{found}: put @tool on the function where it is defined") from None
    return function
