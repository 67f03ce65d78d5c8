"""`@tool`: what a function says about itself as a tool. The function stays what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, overload

from agentsession._json_values import JsonMap
from agentsession._tools.tool_options import RepeatLimit, Tokens, ToolOptions

F = TypeVar("F")

ATTRIBUTE = "__agentsession_tool__"


@dataclass(frozen=True, kw_only=True)
class Mark(ToolOptions):
    """The options of `@tool`; None where the function or the agent decides."""

    name: str | None = None
    description: str | None = None


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str | None = ...,
    description: str | None = ...,
    timeout: float | None = ...,
    idempotent: bool = ...,
    needs_approval: bool | Callable[[JsonMap], Any] = ...,
    sequential: bool = ...,
    result_limit: int | Tokens | Callable[[Any], Any] | None = ...,
    repeat_limit: RepeatLimit = ...,
) -> Callable[[F], F]: ...
def tool(
    function: Any = None,
    /,
    *,
    name: Any = None,
    description: Any = None,
    timeout: Any = None,
    idempotent: Any = False,
    needs_approval: Any = False,
    sequential: Any = False,
    result_limit: Any = None,
    repeat_limit: Any = "auto",
) -> Any:
    """Mark a function as a tool, with options; it is called and tested as before.

    A marked classmethod or staticmethod in the body of an agent is one of its tools. Any other function
    becomes one by `@agent(tools=[…])`, where the mark is needed for its options only. Stands above or below
    `@classmethod` and `@staticmethod`.

    - `name`, `description`: instead of the function's name and docstring.
    - `timeout`: seconds, instead of the agent's `tool_timeout`.
    - `idempotent`: a call may be run again when nobody knows whether it was.
    - `needs_approval`: `True`, or a function of the arguments (a dict) that says so: a person decides first.
    - `sequential`: no other call of the step runs at the same time.
    - `result_limit`: how much of a result the model is shown: bytes, `Tokens(n)`, or a function that makes of
      the result what the model sees. The whole result is stored.
    - `repeat_limit`: how many calls with equal arguments run in one turn; `None` sets no limit. `"auto"` is 1
      for a plain tool, and sets no limit for an idempotent one. A call beyond the limit does not run, and the
      model is told so.

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
    mark = Mark(
        name=name,
        description=description,
        timeout=timeout,
        idempotent=idempotent,
        needs_approval=needs_approval,
        sequential=sequential,
        result_limit=result_limit,
        repeat_limit=repeat_limit,
    )
    return partial(_put, mark) if function is None else _put(mark, function)


def mark_of(function: Any) -> Mark | None:
    """The mark of a function, of the one that a partial calls, or of a method's."""
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
