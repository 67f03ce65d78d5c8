"""What `@tool` and `Tool` can say about a tool beside what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from agentsession._json_values import JsonMap

RepeatLimit: TypeAlias = int | Literal["auto"] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class ToolOptions:
    """The options of a tool, as in `@tool`."""

    timeout: float | None = None
    idempotent: bool = False
    needs_approval: bool | Callable[[JsonMap], Any] = False
    sequential: bool = False
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


BYTES_PER_TOKEN = 4
"""An estimate: English prose has about four bytes a token, other languages and code have fewer."""


@dataclass(frozen=True)
class Tokens:
    """A limit in tokens, counted as four bytes each: an estimate, the same for every model."""

    count: int

    @property
    def bytes(self) -> int:
        return self.count * BYTES_PER_TOKEN


def cut(text: str, limit: int) -> str:
    """The text if it fits into so many bytes; else its beginning, and a line that says what is missing."""
    whole = text.encode()
    if len(whole) <= limit:
        return text
    kept = whole[:limit].decode(errors="ignore")
    return f"{kept}\n… (cut: {len(kept.encode()):,} of {len(whole):,} bytes)"
