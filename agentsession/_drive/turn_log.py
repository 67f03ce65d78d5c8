"""The log records of a turn: how it ended, and what went wrong on the way.

Each record names the model, the session and the turn, in its text and as the attributes `model`, `session`
and `turn`. No record holds what a user or a model wrote: an error is named by its type.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from agentsession import info
from agentsession._store.session_store import StoredSession
from agentsession._turn.effects import CallModel, Emit, Interrupted
from agentsession._turn_state import Turn
from agentsession.errors import LeaseLost, SessionNotFound, StorageFailed, TurnCancelled
from agentsession.events import TurnStarted

_log = logging.getLogger("agentsession")


def warn_about(session: StoredSession, text: str, error: Exception) -> None:
    """Log a warning about the session's turn, with the type of the error."""
    turn = None if session.turn is None else session.turn.id
    model = info.qualified_name(session.model)
    _write(logging.WARNING, model, session.key, turn, f"{text}: %s", type(error).__name__)


class TurnLog:
    """Logs how the turn of one machine ends.

    A turn has begun when the machine emits `TurnStarted`. A machine that runs no turn (it stores one for
    later, repeats a stored result, or cancels) logs nothing.
    """

    def __init__(self, model_name: str, session: StoredSession | None) -> None:
        self.model_name = model_name
        self.session = session
        self.turn: str | None = None
        self.began = 0.0
        self.model_calls = 0

    def note(self, effect: Emit | CallModel) -> None:
        """Note the start of the turn, and count its model calls."""
        if isinstance(effect, Emit) and isinstance(effect.event, TurnStarted):
            self.turn, self.began = effect.event.turn, time.perf_counter()
        elif isinstance(effect, CallModel):
            self.model_calls += 1

    def log_end(self, turn: Turn) -> None:
        """Log that the machine has returned: the turn is completed, or waits for an approval."""
        self._line(logging.INFO, f"{turn.status} ({turn.usage.total_tokens} tokens)")

    def log_failure(self, error: BaseException) -> None:
        """Log that the machine has raised an error."""
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
        _write(level, self.model_name, key, self.turn, text, how, took, self.model_calls)


def _write(level: int, model: str, key: Any, turn: str | None, text: str, *values: object) -> None:
    where = f"{model} call" if key is None else f"{model} {_printable(key)}"
    extra = {"model": model, "session": key, "turn": turn}
    _log.log(level, f"[%s turn %s] {text}", where, _printable(turn), *values, extra=extra)


def _printable(key: Any) -> str:
    """Return the key in one line. A client may choose it, and must not add lines to the log."""
    text = str(key)
    return text if text.isprintable() else ascii(text)
