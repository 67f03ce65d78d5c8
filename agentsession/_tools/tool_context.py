"""What a tool receives about its call, and the value with which it ends the turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def _ignore(progress: Any) -> None:
    """Ignore the progress of a call whose turn is not streamed."""


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """The call of a tool: which one it is, and of which session.

    A tool receives it as the parameter of this type, which the model does not see. A test makes one with
    `ToolContext(call="t:0:0")`.

    Args:
        session_id: Primary key of the session. Default: None, as for a single call.
        actor: The actor of the action. Default: None.
        call: Key of the call in its session, `turn:step:index`.
        turn: Id of the turn. Default: an empty string.
        idempotency_key: A UUID of this call, unique among all sessions. It is the same when the call runs
            again after a crash: pass it on to a service that must not do the same thing twice. Default: an
            empty string.

    Example:
        ```python
        from agentsession import ToolContext

        def pay(amount: int, context: ToolContext) -> str:
            \"\"\"Pay an amount.\"\"\"
            return f"paid {amount} once for {context.idempotency_key}"

        pay(3, ToolContext(call="t:0:0", idempotency_key="a-uuid"))
        ```
    """

    session_id: Any = None
    actor: Any = None
    call: str
    turn: str = ""
    idempotency_key: str = ""
    _report: Callable[[Any], None] = field(default=_ignore, repr=False, compare=False)

    def report(self, progress: Any) -> None:
        """Send the progress of the call to the reader of the stream. Nothing is stored.

        Args:
            progress: Any JSON value.
        """
        self._report(progress)


@dataclass(frozen=True)
class Halt:
    """A tool returns it to end the turn: the model is not called again.

    The value becomes the reply of the turn, and is stored with its end.

    Args:
        value: The reply: a text, or a value of the `output_schema`.

    Example:
        ```python
        from agentsession import Halt

        def hand_over(reason: str) -> Halt:
            \"\"\"Hand the conversation over to a person.\"\"\"
            return Halt("A colleague will answer you.")

        hand_over("angry").value
        ```
    """

    value: Any
