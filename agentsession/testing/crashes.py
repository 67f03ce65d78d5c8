"""Crashes after any step of a turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType

from agentsession._drive.stepper import after_effect
from agentsession._turn.effects import Effect
from agentsession.testing.override import override

MAX_STEPS = 1_000
"""Steps after which `every_crash` takes it that there is no end."""


class Crash(BaseException):
    """The process "died": no handler of the library runs, as after `kill -9`."""


class CrashPoint:
    """A `with` block that dies after its step number `step`: one round of `every_crash`.

    `performed` are the steps that the block took, `happened` tells whether it died, and `str(crash)` says
    both, for the message of an assertion: `assert is_answered(session), crash`.
    """

    def __init__(self, step: int) -> None:
        if step < 1:
            raise ValueError(f"steps are counted from 1, there is no step {step}")
        self.step = step
        self.performed: list[Effect] = []
        self.entered = False
        self._block: AbstractContextManager[None] = override(after_effect, self._count)

    @property
    def happened(self) -> bool:
        return len(self.performed) == self.step

    def __enter__(self) -> CrashPoint:
        if self.entered:
            raise AssertionError("one crash is for one block: what follows it is another process")
        self.entered = True
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._block.__exit__(None, None, None)
        if error is None and self.happened:
            raise AssertionError(f"{self}, but the block went on: something in it caught the crash")
        if isinstance(error, Exception):
            error.add_note(f"in a block that was to crash after step {self.step}")
        return isinstance(error, Crash)

    def _count(self, effect: Effect) -> None:
        """Once dead, the block gets no further, even if a `finally:` of it should try."""
        if not self.happened and effect.is_crash_point:
            self.performed.append(effect)
        if self.happened:
            raise Crash

    def __str__(self) -> str:
        steps = ", ".join(type(effect).__name__ for effect in self.performed)
        if self.happened:
            return f"a crash after step {self.step} ({steps})"
        return f"no crash, {len(self.performed)} steps" + (f" ({steps})" if steps else "")

    def __repr__(self) -> str:
        return f"<{self}>"


@contextmanager
def crash_after(step: int) -> Iterator[list[Effect]]:
    """Die after the turn's effect number `step` (from 1): the block ends there, as if the process had.

    Gives the effects that were performed. Fewer than `step` effects: the block runs to its end. Waiting for a
    busy session is none. An `AssertionError` says that the block caught the crash, which no process could.

    ```python
    with testing.crash_after(2):                    # the row is stored and the model has answered …
        ChatAgent.start_session("Hello!")           # … but the reply was never written
    ```
    """
    with CrashPoint(step) as crash:
        yield crash.performed


def every_crash() -> Iterator[CrashPoint]:
    """Run your code once for every step after which it could be killed, and once to its end.

    Each round gives one `CrashPoint`: set up before `with crash:`, act inside it, check after it. The last
    round is the first whose block is not interrupted.

    A step is one thing that a turn does with the outside: it reads the row, writes it (one statement,
    committed at once), asks the model, or runs tools until one has ended. Nothing is stored between two of
    them, so after these crashes you find what a `kill -9` in the middle of a turn can leave. Two things
    differ: `finally:` blocks of your own code do run, and your own writes are no steps.

    Raises `AssertionError` where a round did not enter its block, or the block caught the crash.

    ```python
    for crash in testing.every_crash():
        with testing.clock() as clock:
            session = ChatAgent.start_session("Hello!")
            with crash:
                session.continue_session("Are you open?", idempotency_key="request 1")
            clock.advance(31)                       # the lease of the killed process runs out,
            session.continue_session("Are you open?", idempotency_key="request 1")  # the browser asks again
        said = [message.role for message in session.get_context().messages]
        assert said == ["user", "assistant"] * 2, crash
    ```
    """
    for step in range(1, MAX_STEPS + 1):
        crash = CrashPoint(step)
        yield crash
        if not crash.entered:
            raise AssertionError("a round of every_crash went by without `with crash:`")
        if not crash.happened:
            return
    raise AssertionError(
        f"there is no end after {MAX_STEPS} steps: each round must begin from the same state"
    )
