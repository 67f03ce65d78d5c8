"""The sync driver: one effect after the other, on the caller's thread."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from agentsession.turn.effects import Ask, Effect, Machine, Outcome, Stopped

after_effect: ContextVar[Callable[[Effect], None] | None] = ContextVar("after_effect", default=None)
"""For crash tests: called after each performed effect; what it raises drops the machine."""


def drive(machine: Machine, perform: Callable[[Effect], Any]) -> Outcome:
    """Run the machine to its end. An effect's error is thrown into the machine at its `yield`.

    Ctrl-C, exit and the like while the model is asked stop the turn, which is stored as interrupted, and go
    on to the caller; at any other moment they are like a crash, which the next call recovers from.
    """
    step: Callable[[Any], Effect] = machine.send
    value: Any = None
    leaving: BaseException | None = None
    while True:
        try:
            effect = step(value)
        except StopIteration as ended:
            outcome: Outcome = ended.value
            return outcome
        except (Stopped, Exception):
            if leaving is not None:
                raise leaving from None
            raise
        step = machine.send
        try:
            value = perform(effect)
        except Exception as error:
            step, value = machine.throw, error
        except BaseException as stop:
            if not isinstance(effect, Ask):
                raise
            step, value, leaving = machine.throw, Stopped(type(stop).__name__), stop
        crash = after_effect.get()
        if crash is not None:
            crash(effect)
