"""What a tool is told about its call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def _nobody_listens(progress: Any) -> None:
    """What a context reports to that no stream follows."""


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a tool is told about its call, if it has a parameter of this type, which the model does not see.

    - `session_id`: the session's primary key, `actor` the one for whom it was run; None where there is none.
    - `call`: the key of the call in its session, `turn:step:index`; `turn`: the id of the turn.
    - `idempotency_key`: a UUID that stands for this call among those of all sessions. It is the same when the
      call is run again after a crash: pass it on to whoever must not do the same thing twice.

    In a test: `ToolContext(call="t:0:0")`.
    """

    session_id: Any = None
    actor: Any = None
    call: str
    turn: str = ""
    idempotency_key: str = ""
    _report: Callable[[Any], None] = field(default=_nobody_listens, repr=False, compare=False)

    def report(self, progress: Any) -> None:
        """Tell who follows the stream how far the tool is, with any JSON value. Nothing is stored."""
        self._report(progress)


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
