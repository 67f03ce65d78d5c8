"""Log records about the turns that a driver runs.

Each record names the model, the session and the turn, in its text and as the attributes `model`, `session`
and `turn`. No record holds what a user or a model wrote: an error is named by its type.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from agentsession import info
from agentsession._store.session_store import StoredSession
from agentsession._turn.effects import CallModel, Effect, Emit, Interrupted
from agentsession._turn_state import Turn
from agentsession.errors import LeaseLost, SessionNotFound, StorageFailed, TurnCancelled
from agentsession.events import TurnStarted

_log = logging.getLogger("agentsession")


def warn_about(session: StoredSession, text: str, error: Exception) -> None:
    """Log a warning about the turn that is run on the session, with the type of the error."""
    turn = None if session.turn is None else session.turn.id
    place = info.qualified_name(session.model)
    _write(logging.WARNING, place, session.key, turn, f"{text}: %s", type(error).__name__)


class TurnLog:
    """Logs how the turn of one machine ends.

    A machine that runs no turn (it stores one for later, repeats a stored result, cancels) logs nothing. A
    turn has begun once the machine emits `TurnStarted`.
    """

    def __init__(self, place: str, session: StoredSession | None) -> None:
        self.place = place
        self.session = session
        self.turn: str | None = None
        self.began = 0.0
        self.model_calls = 0

    def saw(self, effect: Effect) -> None:
        if isinstance(effect, Emit) and isinstance(effect.event, TurnStarted):
            self.turn, self.began = effect.event.turn, time.perf_counter()
        elif isinstance(effect, CallModel):
            self.model_calls += 1

    def ended(self, turn: Turn) -> None:
        """The machine has returned: the turn is stored as completed, or as waiting for an approval."""
        self._line(logging.INFO, f"{turn.status} ({turn.usage.total_tokens} tokens)")

    def broke(self, error: BaseException) -> None:
        """The machine has raised."""
        kind = type(error).__name__
        match error:
            case Interrupted():
                self._line(logging.INFO, f"interrupted by {error.why}")
            case TurnCancelled():
                self._line(logging.INFO, "cancelled by another caller")
            case SessionNotFound():
                self._line(logging.WARNING, "not stored, because the session was deleted")
            case LeaseLost():
                self._line(logging.WARNING, "lost: another process took the turn over")
            case StorageFailed():
                self._line(logging.WARNING, f"not stored: {type(error.__cause__ or error).__name__}")
            case _:
                self._line(logging.WARNING, f"failed: {kind}")

    def _line(self, level: int, how: str) -> None:
        if self.turn is None:
            return
        key = None if self.session is None else self.session.key
        took = time.perf_counter() - self.began
        text = "the turn ended: %s, after %.2f s and %d model calls"
        _write(level, self.place, key, self.turn, text, how, took, self.model_calls)


def _write(level: int, place: str, key: Any, turn: str | None, text: str, *values: object) -> None:
    where = f"{place} call" if key is None else f"{place} {_printable(key)}"
    extra = {"model": place, "session": key, "turn": turn}
    _log.log(level, f"[%s turn %s] {text}", where, _printable(turn), *values, extra=extra)


def _printable(key: Any) -> str:
    """The key in one line. A client may choose it, and must not write a log line of its own."""
    text = str(key)
    return text if text.isprintable() else ascii(text)
