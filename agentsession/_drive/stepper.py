"""The rules that every driver keeps: how a machine is stepped, and what it means to leave in the middle."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType

from agentsession._drive.interruption import is_interruption
from agentsession._drive.turn_log import TurnLog
from agentsession._turn.effects import Effect, Emit, Interrupted, Machine, Outcome, RunTools, ToolResult

after_effect: ContextVar[Callable[[Effect], None] | None] = ContextVar("after_effect", default=None)
"""For crash tests: called after each performed effect; what it raises drops the machine."""


class MachineStepper:
    """The effects of a machine, one after the other. Each is performed in a `with` block of its own, and puts
    its result into `value`; what it raises is thrown into the machine at its `yield`.

    Who leaves (Ctrl-C while the model is asked, a cancelled task, a closed stream) gets no further question
    and no further event. What is being written is written to its end, with the end of the turn, and then the
    error with which they left goes on. At any other moment that error is like a crash, which the next call
    recovers from. `came` tells which calls of tools have ended that the machine does not know of."""

    outcome: Outcome

    def __init__(self, machine: Machine, log: TurnLog) -> None:
        self.machine = machine
        self.log = log
        self.effect: Effect | None = None
        self.value: object = None
        self.error: BaseException | None = None
        self.leaving: BaseException | None = None
        self.came: Callable[[], tuple[ToolResult, ...]] = tuple

    def __iter__(self) -> MachineStepper:
        return self

    def __next__(self) -> Effect:
        crash = after_effect.get()
        if crash is not None and self.effect is not None:
            crash(self.effect)
        while (effect := self._advance()) is not None:
            if self.leaving is None or effect.uses_store:
                return effect
            if not isinstance(effect, Emit):
                is_waiting = isinstance(effect, RunTools) and not effect.calls
                self.error = Interrupted.by(self.leaving, ran=self.came() if is_waiting else ())
        raise self.leaving or StopIteration

    def _advance(self) -> Effect | None:
        """Go on to the next effect; None at the end."""
        value, error = self.value, self.error
        self.value = self.error = None
        try:
            self.effect = self.machine.send(value) if error is None else self.machine.throw(error)
        except StopIteration as ended:
            self.outcome = ended.value
            self.log.ended(self.outcome.turn)
            return None
        except (Interrupted, Exception) as failed:
            self.log.broke(failed)
            if self.leaving is None:
                raise
            raise self.leaving from None
        self.log.saw(self.effect)
        return self.effect

    def leave(self, why: BaseException) -> None:
        """The first reason counts, but a cancelled task must learn of it."""
        if self.leaving is None or isinstance(self.leaving, GeneratorExit):
            self.leaving = why

    def __enter__(self) -> MachineStepper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Interrupted):
            self.leave(error.__cause__ or error)
            if self.value is not None:  # the reply has come, and is stored
                return True
        elif error is not None and isinstance(self.effect, Emit):
            self.leave(error)
            return True
        elif error is not None and self._is_interrupted(error):
            self.leave(error)
            error = Interrupted.by(error)
        elif error is None or is_interruption(error):
            return False
        self.error = error
        return True

    def _is_interrupted(self, error: BaseException) -> bool:
        return self.effect is not None and self.effect.is_interruptible and is_interruption(error)
