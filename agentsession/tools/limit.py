"""How much of a tool's result the model is shown."""

from __future__ import annotations

from dataclasses import dataclass

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
