"""What a driver throws into a machine, instead of the result of an effect."""

from __future__ import annotations

from agentsession.turn.effects import ToolResult
from agentsession.turn.exchange import NOTHING, Delta


class Stopped(BaseException):
    """Thrown into the machine where it would ask, act or wait: the caller has left (Ctrl-C, a cancelled task,
    a closed stream), for which it is named. `received` is what had come of the reply, `ran` are the calls
    that had ended."""

    def __init__(self, why: str, received: Delta = NOTHING, ran: tuple[ToolResult, ...] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.received = received
        self.ran = ran

    @classmethod
    def by(cls, error: BaseException, received: Delta = NOTHING, ran: tuple[ToolResult, ...] = ()) -> Stopped:
        is_closed = isinstance(error, GeneratorExit)
        return cls("StreamClosed" if is_closed else type(error).__name__, received, ran)


class Unanswered(Exception):
    """Thrown into the machine while it asks: the provider failed, with the error that is the cause, after
    `received` had come."""

    def __init__(self, received: Delta = NOTHING) -> None:
        super().__init__()
        self.received = received


class ClaimGone(Exception):
    """Thrown into the machine while it asks: another has ended the claim."""


class Unacknowledged(Exception):
    """Thrown into the machine at a write: the database did not say whether it was done. Its error is the
    cause."""
