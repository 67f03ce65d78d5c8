"""What `@tool` and `Tool` can say about a tool beside what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from agentsession.json_values import JsonMap
from agentsession.tools.limit import Tokens

RepeatLimit: TypeAlias = int | Literal["auto"] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class ToolOptions:
    """The options of a tool, as in `@tool`."""

    timeout: float | None = None
    idempotent: bool = False
    needs_approval: bool | Callable[[JsonMap], Any] = False
    alone: bool = False
    result_limit: int | Tokens | Callable[[Any], Any] | None = None
    repeat_limit: RepeatLimit = "auto"

    @property
    def equal_calls(self) -> int | None:
        """How many calls with equal arguments may run in one turn; None: any number."""
        if self.repeat_limit != "auto":
            return self.repeat_limit
        return None if self.idempotent else 1


def options_of(given: ToolOptions) -> JsonMap:
    """The options alone, by name."""
    return {field.name: getattr(given, field.name) for field in fields(ToolOptions)}
