"""What `@tool` and `Tool` can say about a tool beside what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from agentsession.json_values import JsonMap
from agentsession.tools.limit import Tokens


@dataclass(frozen=True, eq=False, kw_only=True)
class ToolOptions:
    """The options of a tool, as in `@tool`."""

    timeout: float | None = None
    idempotent: bool = False
    needs_approval: bool | Callable[[JsonMap], Any] = False
    alone: bool = False
    result_limit: int | Tokens | Callable[[Any], Any] | None = None


def options_of(given: ToolOptions) -> JsonMap:
    """The options alone, by name."""
    return {field.name: getattr(given, field.name) for field in fields(ToolOptions)}
