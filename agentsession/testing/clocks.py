"""A clock that stands still, so that no test waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agentsession import _clock as time
from agentsession._clock import FakeClock as FakeClock
from agentsession.testing.override import override


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
