"""Short `with` blocks for tests: a clock that stands still, transactions, expected errors of declarations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar

from agentsession import _clock as time
from agentsession._clock import FakeClock as FakeClock
from agentsession._drive.performer import allow_transactions
from agentsession.errors import DslError, Problem

T = TypeVar("T")


@contextmanager
def override(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Set a context variable for the block."""
    token = variable.set(value)
    try:
        yield
    finally:
        with suppress(ValueError):  # another task set it, and has ended
            variable.reset(token)


@contextmanager
def clock(at: float | None = None) -> Iterator[FakeClock]:
    """Stop the time for the block, until you advance it.

    Leases and the updated attribute use this clock instead of that of the host and the database. A turn that
    waits for a busy session (`on_busy="wait"`) advances it instead of sleeping.

    Only the block's own thread (or task) uses it. Other threads and processes, your own columns and the
    `timeout` of a model use the real time.

    Args:
        at: The time, in seconds since 1970. By default the present time.

    Yields:
        The clock. `clock.seconds` is its time, `clock.advance(31)` moves it by 31 seconds.

    Example:
        ```python
        session = ChatAgent.start_session("Hello!")
        with testing.clock() as clock:
            with testing.crash_after(2):  # loaded, claimed, and "killed"
                session.continue_session("Are you there?")
            with pytest.raises(SessionBusy):  # its lease has not ended
                session.resume_session()
            clock.advance(31)
            session.resume_session()
        ```
    """
    fake = FakeClock(time.seconds() if at is None else at)
    with override(time.fake, fake):
        yield fake


@contextmanager
def inside_transaction() -> Iterator[None]:
    """Allow every action inside an open transaction, for tests that roll back at their end.

    Example:
        ```python
        with db.atomic() as transaction, testing.inside_transaction():
            ChatAgent.start_session("Hello!")
            transaction.rollback()
        ```
    """
    with override(allow_transactions, True):
        yield


@contextmanager
def dsl_errors() -> Iterator[list[Problem]]:
    """Expect a `DslError` in the block.

    Yields:
        A list. After the block it holds the error's problems.

    Raises:
        AssertionError: The block raised no `DslError`.

    Example:
        ```python
        with testing.dsl_errors() as problems:

            @agent(client="nonsense", instruction="Hi")
            class Broken: ...

        assert "client" in problems[0].where
        ```
    """
    problems: list[Problem] = []
    try:
        yield problems
    except DslError as error:
        problems += error.problems
    else:
        raise AssertionError("no DslError was raised")
