"""Blocks of thinking that come in pieces."""

from __future__ import annotations

from typing import Any

from agentsession.json_values import JsonMap


class Thoughts:
    """litellm tells the whole text again with the signature of a block of Anthropic's, and its own builder
    adds it to what had come: the signature would fit no more."""

    def __init__(self) -> None:
        self.blocks: list[JsonMap] = []
        self._pieces: list[str] = []

    def add(self, delta: Any) -> None:
        """Take what a piece of a stream brings."""
        for piece in getattr(delta, "thinking_blocks", None) or ():
            if piece.get("type") == "redacted_thinking":
                self.blocks.append({name: value for name, value in piece.items() if name != "index"})
                continue
            text = piece.get("thinking") or ""
            signature = piece.get("signature")
            self._pieces.append(text)
            if signature:
                before = "".join(self._pieces[:-1])
                thinking = text if text.startswith(before) else before + text
                self.blocks.append({"type": "thinking", "thinking": thinking, "signature": signature})
                self._pieces = []
