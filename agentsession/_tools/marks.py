"""`@tool`: the options of a function as a tool, kept in an attribute of the function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, overload

from agentsession._json_values import JsonMap
from agentsession._option_rules import UNSET, keywords_of, suggestion
from agentsession._tools.tool_options import RepeatLimit, ResultLimit, ToolOptions

F = TypeVar("F")

ATTRIBUTE = "__agentsession_tool__"


@dataclass(frozen=True, kw_only=True)
class Mark(ToolOptions):
    """The options of `@tool`. None for the name and the description of the function itself."""

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
