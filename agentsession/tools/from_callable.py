"""A tool made of a function: its name, docstring, signature and mark say all that a tool needs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from agentsession.tools.definition import Tool
from agentsession.tools.docstring import read_docstring
from agentsession.tools.marks import Mark, mark_of
from agentsession.tools.parameters import Signed
from agentsession.tools.signature import plain_function, signature_of, source_of
from agentsession.tools.tool_options import options_of

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
        parameters=Signed(str(name), signature_of(function), described, source_of(function)),
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
