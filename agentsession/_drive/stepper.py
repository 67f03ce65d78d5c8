"""How both drivers step a machine: what happens when the caller leaves, and what is logged about the turn.

Each log record names the model, the session and the turn, in its text and as the attributes `model`,
`session` and `turn`. No record holds what a user or a model wrote: an error is named by its type.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import Any

from agentsession import info
from agentsession._store.session_store import StoredSession
from agentsession._turn.effects import (
    CallModel,
    Effect,
    Emit,
    Interrupted,
    Machine,
    Outcome,
    RunTools,
    ToolResult,
)
from agentsession._turn_state import Turn
from agentsession.errors import LeaseLost, SessionNotFound, StorageFailed, TurnCancelled
from agentsession.events import TurnStarted

_log = logging.getLogger("agentsession")

after_effect: ContextVar[Callable[[Effect], None] | None] = ContextVar("after_effect", default=None)
"""For crash tests: called after each performed effect. An error that it raises drops the machine."""


class MachineStepper:
    """Iterates over the effects of a machine. A driver performs each in a `with` block of `Performing`.

    The caller leaves a turn with Ctrl-C, when its task is cancelled, or by closing the stream. After that, no
    new effect starts, except those of the store: a write that is under way finishes, and the machine stores
    the end of the turn. Then the iterator raises the error with which the caller left. So there is one rule
    for every moment at which a caller can leave.
    """

    outcome: Outcome
    """The machine's outcome, once the iterator has ended."""

    def __init__(self, machine: Machine, log: TurnLog) -> None:
        self._machine = machine
        self._log = log
        self.result: object = None
        """The result of the last effect, with which the machine is resumed."""
        self.error: BaseException | None = None
        """The error that is thrown into the machine in place of a result."""
        self._leaving: BaseException | None = None
        self.results_so_far: Callable[[], tuple[ToolResult, ...]] = tuple
        """Returns the results of tool calls that the machine has not received yet."""

    def __iter__(self) -> Iterator[Effect]:
        while (effect := self._next_effect()) is not None:
            if self._leaving is None or effect.uses_store:
                yield effect
                crash = after_effect.get()
                if crash is not None:
                    crash(effect)
            elif not isinstance(effect, Emit):
                is_waiting = isinstance(effect, RunTools) and not effect.calls
                self.error = Interrupted.by(self._leaving, ran=self.results_so_far() if is_waiting else ())
        if self._leaving is not None:
            raise self._leaving

    def leave(self, error: BaseException) -> None:
        """Note that the caller leaves with this error.

        The first error is kept. Only a closed stream gives way to a later one, because a task that is
        cancelled must receive its `CancelledError`.
        """
        if self._leaving is None or isinstance(self._leaving, GeneratorExit):
            self._leaving = error

    def _next_effect(self) -> Effect | None:
        """Step the machine to its next effect. Return None when it has ended."""
        result, error = self.result, self.error
        self.result = self.error = None
        try:
            effect = self._machine.send(result) if error is None else self._machine.throw(error)
        except StopIteration as end:
            self.outcome = end.value
            self._log.log_end(self.outcome.turn)
            return None
        except (Interrupted, Exception) as failure:
            self._log.log_failure(failure)
            if self._leaving is None:
                raise
            raise self._leaving from None
        if isinstance(effect, (Emit, CallModel)):
            self._log.note(effect)
        return effect


@dataclass
class Performing:
    """A `with` block in which a driver performs one effect, and sets its `result`.

    An error inside the block is thrown into the machine. One that is raised while the caller leaves becomes
    `Interrupted` where the machine can handle that. At any other moment it passes: the turn stops as in a
    crash, and the next call recovers it.
    """

    stepper: MachineStepper
    effect: Effect
    result: object = None

    def __enter__(self) -> Performing:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Interrupted):
            self.stepper.leave(error.__cause__ or error)
            if self.result is not None:  # the reply is complete, so it is stored as a reply
                error = None
        elif error is not None and isinstance(self.effect, Emit):
            self.stepper.leave(error)
            error = None
        elif error is not None and is_interruption(error):
            if not self.effect.is_interruptible:
                return False
            self.stepper.leave(error)
            error = Interrupted.by(error)
        self.stepper.result, self.stepper.error = self.result, error
        return True


def is_interruption(error: BaseException) -> bool:
    """Return whether the error is Ctrl-C, an exit, a cancellation, or was raised by a signal handler."""
    return not isinstance(error, Exception) or is_raised_by_a_signal_handler(error)


def is_raised_by_a_signal_handler(error: BaseException) -> bool:
    trace = error.__traceback__
    handlers = {*_handlers()} if trace is not None else set()
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _handlers() -> Iterator[CodeType]:
    """Yield the code of the signal handlers that are installed now."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, partial):
            handler = handler.func
        if not callable(handler):
            continue
        code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
        if isinstance(code, CodeType):
            yield code


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
