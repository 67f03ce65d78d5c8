"""How a tool ends the turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Halt:
    """A tool returns it to end the turn with this value: the model is not asked again.

    ```python
    def hand_over(reason: str) -> Halt:
        \"\"\"Hand the conversation over to a person.\"\"\"
        return Halt("A colleague will answer you.")
    ```
    """

    value: Any
