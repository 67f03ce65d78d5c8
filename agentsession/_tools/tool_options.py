"""The options of a tool, which `@tool` and `Tool` have in common.

A field has the rule of its value. To add an option, write the field here, and the keyword in the signature
and the docstring of `@tool`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeAlias

from agentsession._json_values import JsonMap
from agentsession._option_rules import Rule, duration, is_count, switch
from agentsession._tools.signature import is_async

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


def options_of(tool: ToolOptions) -> JsonMap:
    """Return the options by name, without what a subclass adds."""
    return {field.name: getattr(tool, field.name) for field in fields(ToolOptions)}


def cut(text: str, limit: int) -> str:
    """Return the text if it has at most `limit` bytes, else its beginning and a line on the cut."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    kept = encoded[:limit].decode(errors="ignore")
    return f"{kept}\n… (cut: {len(kept.encode()):,} of {len(encoded):,} bytes)"
