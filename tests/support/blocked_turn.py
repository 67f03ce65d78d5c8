"""A turn whose model takes its time: it runs in another thread until the test lets it answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from agentsession import _clock
from agentsession.provider import Reply

HOUR = 3600.0


class Waits:
    """A model that answers words that begin with "slow" when it may, and all others at once."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.answer = threading.Event()
        self.questions: list[str] = []

    def ask(self, request: Any) -> Reply:
        words = request.prompt[-1].content
        self.questions.append(words)
        if words.startswith("slow"):
            self.asked.release()
            assert self.answer.wait(300)
        return Reply(f"answer to {words}")


def off_by(hours: float) -> _clock.FakeClock:
    """A clock that is wrong by some hours."""
    return _clock.FakeClock(time.time() + hours * HOUR)


def by_the_clock(at: _clock.FakeClock | None, act: Any, *arguments: Any, **options: Any) -> Any:
    """In a thread whose clock is this one."""
    _clock.fake.set(at)
    return act(*arguments, **options)


@contextmanager
def a_slow_turn(
    Chat: Any, key: Any, model: Waits, at: _clock.FakeClock | None = None, **options: Any
) -> Iterator[Future[Any]]:
    """A turn in a thread whose clock is this one; its model was asked and does not answer yet."""
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(by_the_clock, at, Chat.continue_session, key, "slow", **options)
        try:
            assert model.asked.acquire(timeout=60)
            yield slow
        finally:
            model.answer.set()
