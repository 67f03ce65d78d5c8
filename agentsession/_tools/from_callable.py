"""A tool made of a function: its name, docstring, signature and mark say all that a tool needs."""

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
    """Raises `ValueError` or `TypeError` where Python knows no signature of it."""
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


def snake_case(name: str) -> str:
    """`WebSearch` → `web_search`."""
    return _WORD.sub("_", name).lower()


def _docstring(function: Any, plain: Any) -> str:
    """That of an object's class, where its `__call__` has none."""
    if getattr(plain, "__name__", "") == "__call__":
        return inspect.cleandoc(plain.__doc__ or type(function).__doc__ or "")
    return inspect.getdoc(plain) or ""


def _name(function: Any, plain: Any) -> str:
    own = str(getattr(plain, "__name__", ""))
    return snake_case(type(function).__name__) if own == "__call__" else own


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The description (summary, body, what is returned), and one for each parameter that has one."""
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


def _line(text: str) -> str:
    return " ".join(text.split())
