"""A clock that stands still, so that no test has to wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agentsession import _clock as time
from agentsession._clock import FakeClock as FakeClock
from agentsession.testing.override import override


@contextmanager
def clock(at: float | None = None) -> Iterator[FakeClock]:
    """Let the time stand still at `at`, in seconds since 1970 (default: now), until you advance it.

    Leases and the updated attribute go by it, in place of the host's clock and the database's. A turn that
    waits for a busy session (`on_busy="wait"`) advances it instead of sleeping. `clock.seconds` is what it
    shows.

    Only the block's own thread (or task) sees it. Other threads and processes, your own columns and a model's
    `timeout` go by the real time.

    ```python
    session = ChatAgent.start_session("Hello!")
    with testing.clock() as clock:
        with testing.crash_after(2):                # loaded, claimed, and "killed"
            session.continue_session("Are you there?")
        with pytest.raises(SessionBusy):            # its lease is still running
            session.resume_session()
        clock.advance(31)
        session.resume_session()
    ```
    """
    fake = FakeClock(time.seconds() if at is None else at)
    with override(time.fake, fake):
        yield fake
