"""How both drivers step a machine, and what happens when the caller leaves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import Any, TypeVar

from agentsession._drive.turn_log import TurnLog
from agentsession._turn.effects import (
    CallModel,
    Effect,
    Emit,
    Interrupted,
    Machine,
    Outcome,
    RunTools,
    ToolResult,
    WriteUnconfirmed,
)

T = TypeVar("T")

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
    """Return whether the traceback of the error has a frame of a signal handler."""
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


async def shielded(
    work: Coroutine[Any, Any, T], on_cancel: Callable[[BaseException], object] | None = None
) -> T:
    """Run the work to its end in its own task, and return its result.

    If the caller's task is cancelled meanwhile, `on_cancel` is called. Without `on_cancel` the cancellation
    is raised after the work. A task may be cancelled many times: anyio cancels again at every `await`.
    """
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while True:
        try:
            value = await asyncio.shield(task)
        except asyncio.CancelledError as cancelled:
            cancellation = cancelled
            if on_cancel is not None:
                on_cancel(cancelled)
            if task.cancelled():  # the event loop is shutting down
                raise (cancelled if on_cancel is None else WriteUnconfirmed()) from cancelled
        else:
            if cancellation is not None and on_cancel is None:
                raise cancellation
            return value
