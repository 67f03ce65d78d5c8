"""Make a tool of a function: from its name, docstring, signature and mark."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from agentsession._tools.definition import Tool
from agentsession._tools.marks import Mark, mark_of
from agentsession._tools.signature import FromSignature, plain_function, signature_of, source_of
from agentsession._tools.tool_options import options_of

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def tool_of(function: Callable[..., Any]) -> Tool:
    """Return the tool of a function.

    Raises:
        ValueError, TypeError: Python does not know the signature of the function.
    """
    mark = mark_of(function) or Mark()
    plain = plain_function(function)
    name = _name(function, plain) if mark.name is None else mark.name
    description, described = read_docstring(_docstring(function, plain))
    return Tool(
        name=name,
        description=description if mark.description is None else mark.description,
        parameters=FromSignature(str(name), signature_of(function), described, source_of(function)),
        function=function,
        **options_of(mark),
    )


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the description (summary, body, return value), and the description of each parameter."""
    if not text.strip():
        return "", {}
    import docstring_parser

    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return text.strip(), {}
    described = {each.arg_name: _line(each.description) for each in parsed.params if each.description}
    parts = [(parsed.description or "").strip()]
    if parts[0] and parsed.returns is not None and parsed.returns.description:
        parts.append(f"Returns: {_line(parsed.returns.description)}")
    return "\n\n".join(part for part in parts if part), described


def snake_case(name: str) -> str:
    """Return a name in snake case: `WebSearch` → `web_search`."""
    return _WORD.sub("_", name).lower()


def _docstring(function: Any, plain: Any) -> str:
    """Return the docstring; of an object, that of `__call__` or of its class."""
    if getattr(plain, "__name__", "") == "__call__":
        return inspect.cleandoc(plain.__doc__ or type(function).__doc__ or "")
    return inspect.getdoc(plain) or ""


def _name(function: Any, plain: Any) -> str:
    own = str(getattr(plain, "__name__", ""))
    return snake_case(type(function).__name__) if own == "__call__" else own


def _line(text: str) -> str:
    return " ".join(text.split())
