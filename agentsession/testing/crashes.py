"""Crashes after any step of a turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType

from agentsession._drive.stepper import after_effect
from agentsession._turn.effects import Effect
from agentsession.testing.blocks import override

MAX_STEPS = 1_000
"""The number of steps after which `every_crash` gives up."""


class Crash(BaseException):
    """Ends a block as a kill of the process would: no handler of the library runs."""


class CrashPoint:
    """A `with` block that dies after its step number `step`: one round of `every_crash`.

    `str(crash)` describes it, for the message of an assertion: `assert is_answered(session), crash`.

    Attributes:
        step (int): The number of the step, from 1.
        performed (list): The steps that the block has performed.
        happened (bool): Whether the block died.
    """

    def __init__(self, step: int) -> None:
        if step < 1:
            raise ValueError(f"steps count from 1, and {step} is not a step")
        self.step = step
        self.performed: list[Effect] = []
        self.entered = False
        self._block: AbstractContextManager[None] = override(after_effect, self._count)

    @property
    def happened(self) -> bool:
        """Return whether the block died."""
        return len(self.performed) == self.step

    def __enter__(self) -> CrashPoint:
        if self.entered:
            raise AssertionError("a CrashPoint is for one block: the code after it runs in another process")
        self.entered = True
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._block.__exit__(None, None, None)
        if error is None and self.happened:
            raise AssertionError(f"{self}, but the block continued: its code caught the crash")
        if isinstance(error, Exception):
            error.add_note(f"in a block that was to crash after step {self.step}")
        return isinstance(error, Crash)

    def _count(self, effect: Effect) -> None:
        """Count a step. After the crash no further step runs, also in a `finally:` of the block."""
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
    """End the block after a step of the turn, as if the process had been killed there.

    If the turn has fewer steps, the block runs to its end. A wait for a busy session is not a step.

    Args:
        step: The number of the step, from 1.

    Yields:
        The steps that the block has performed.

    Raises:
        AssertionError: The block caught the crash, which no process could do.

    Example:
        ```python
        with testing.crash_after(2):  # the row is stored and the model has replied …
            ChatAgent.start_session("Hello!")  # … but the reply is not stored
        ```
    """
    with CrashPoint(step) as crash:
        yield crash.performed


def every_crash() -> Iterator[CrashPoint]:
    """Run your code once for every step after which it could be killed, and once to its end.

    Each round yields one `CrashPoint`: set up before `with crash:`, act inside it, check after it. The last
    round is the first whose block is not interrupted.

    A step is one exchange of a turn with the outside: it reads the row, writes it (one transaction), calls
    the model, or runs tools until one has ended. Nothing is stored between two steps, so these crashes leave
    what `kill -9` during a turn can leave. Two things differ: `finally:` blocks of your own code run, and
    your own writes are not steps.

    Yields:
        One `CrashPoint` for each round.

    Raises:
        AssertionError: A round did not enter its block, the block caught the crash, or the rounds do not end.

    Example:
        ```python
        for crash in testing.every_crash():
            with testing.clock() as clock:
                session = ChatAgent.start_session("Hello!")
                with crash:
                    session.continue_session("Are you open?", idempotency_key="request 1")
                clock.advance(31)  # the lease of the killed process ends, and the browser asks again
                session.continue_session("Are you open?", idempotency_key="request 1")
            roles = [message.role for message in session.get_context().messages]
            assert roles == ["user", "assistant"] * 2, crash
        ```
    """
    for step in range(1, MAX_STEPS + 1):
        crash = CrashPoint(step)
        yield crash
        if not crash.entered:
            raise AssertionError("a round of every_crash did not enter `with crash:`")
        if not crash.happened:
            return
    raise AssertionError(
        f"there is no end after {MAX_STEPS} steps: each round must begin from the same state"
    )
