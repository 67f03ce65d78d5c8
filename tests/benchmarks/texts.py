"""Texts that nothing can compress: PostgreSQL would flatter a document whose messages are alike."""

from __future__ import annotations

import base64
import random

BYTES = 300


class Texts:
    """400 characters, other ones each time, and the same ones in each run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def fresh(self) -> str:
        return base64.b64encode(self.random.randbytes(BYTES)).decode()

    def turn_id(self) -> str:
        return self.random.randbytes(16).hex()
