"""The rules that both drivers keep: how a machine is stepped, and what happens when the caller leaves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from types import CodeType
from typing import Any

from agentsession._drive.turn_log import TurnLog
from agentsession._turn.effects import Effect, Emit, Interrupted, Machine, Outcome, RunTools, ToolResult

after_effect: ContextVar[Callable[[Effect], None] | None] = ContextVar("after_effect", default=None)
"""For crash tests: called after each performed effect. An error that it raises drops the machine."""


class MachineStepper:
    """Iterates over the effects of a machine. A driver performs each in a block `with performing(effect)`.

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
        self._result: object = None
        self._error: BaseException | None = None
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
                self._error = Interrupted.by(self._leaving, ran=self.results_so_far() if is_waiting else ())
        if self._leaving is not None:
            raise self._leaving

    def performing(self, effect: Effect) -> Performing:
        """Return a context manager around the performing of one effect."""
        return Performing(self, effect)

    def resume_with(self, result: object, error: BaseException | None) -> None:
        """Send the result to the machine in the next step, or throw the error into it."""
        self._result, self._error = result, error

    def leave(self, error: BaseException) -> None:
        """Note that the caller leaves with this error.

        The first error is kept. Only a closed stream gives way to a later one, because a task that is
        cancelled must receive its `CancelledError`.
        """
        if self._leaving is None or isinstance(self._leaving, GeneratorExit):
            self._leaving = error

    def _next_effect(self) -> Effect | None:
        """Step the machine to its next effect. Return None when it has ended."""
        result, error = self._result, self._error
        self._result = self._error = None
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
        self._log.note(effect)
        return effect


class Performing:
    """A `with` block in which a driver performs one effect, and sets its `result`.

    An error inside the block is thrown into the machine. One that is raised while the caller leaves becomes
    `Interrupted` where the machine can handle that. At any other moment it passes: the turn stops as in a
    crash, and the next call recovers it.
    """

    result: object = None

    def __init__(self, stepper: MachineStepper, effect: Effect) -> None:
        self._stepper = stepper
        self._effect = effect

    def __enter__(self) -> Performing:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Interrupted):
            self._stepper.leave(error.__cause__ or error)
            if self.result is not None:  # the reply is complete, so it is stored as a reply
                error = None
        elif error is not None and isinstance(self._effect, Emit):
            self._stepper.leave(error)
            error = None
        elif error is not None and is_interruption(error):
            if not self._effect.is_interruptible:
                return False
            self._stepper.leave(error)
            error = Interrupted.by(error)
        self._stepper.resume_with(self.result, error)
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
