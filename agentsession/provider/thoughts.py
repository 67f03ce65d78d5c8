"""Blocks of thinking that come in pieces."""

from __future__ import annotations

from typing import Any

from agentsession.json_values import JsonMap


class Thoughts:
    """litellm tells the whole text again with the signature of a block of Anthropic's, and its own builder
    adds it to what had come: the signature would fit no more."""

    def __init__(self) -> None:
        self.blocks: list[JsonMap] = []
        self._text = ""

    def add(self, delta: Any) -> None:
        """Take what a piece of a stream brings."""
        for piece in getattr(delta, "thinking_blocks", None) or ():
            if piece.get("type") == "redacted_thinking":
                self.blocks.append(dict(piece))
                continue
            text = piece.get("thinking") or ""
            signature = piece.get("signature")
            is_whole = signature and text.startswith(self._text)
            self._text = text if is_whole else self._text + text
            if signature:
                self.blocks.append({"type": "thinking", "thinking": self._text, "signature": signature})
                self._text = ""
