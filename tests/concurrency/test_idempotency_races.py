"""I6: concurrent calls with one key are one turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from agentsession import IdempotencyMismatch, SessionBusy, testing
from agentsession._drive.stepper import after_effect
from agentsession._turn.effects import Effect, Wait
from agentsession.provider import Reply
from tests.support.idempotent_models import Speaker, Speaks

pytestmark = pytest.mark.matrix


class Waits:
    """A model that replies when the test lets it."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()

    def ask(self, request: Any) -> Reply:
        if request.prompt[-1].content == "Before":
            return Reply("hi")
        self.asked.set()
        assert self.answer.wait(30)
        return Reply("at last")


@contextmanager
def in_progress(say: Speaker, model: Waits) -> Iterator[Future[Any]]:
    """Run the first call in another thread, whose model does not reply yet."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(say)
        assert model.asked.wait(30)
        try:
            yield first
        finally:
            model.answer.set()


def test_repeating_a_key_while_its_first_call_runs_raises_session_busy(speaker: Speaks) -> None:
    model = Waits()
    say = speaker(provider=model)
    with in_progress(say, model) as first, testing.script(say.Chat, []):
        before = say.rows()
        with pytest.raises(SessionBusy, match="a turn has been running"):
            say()
        assert say(run=False).last_turn.status == "running"
        assert say.rows() == before
        model.answer.set()
        assert first.result().last_result.text == "at last"
        assert say().last_result.text == "at last"


def test_a_repeat_that_waits_returns_the_result_of_the_first_call(speaker: Speaks) -> None:
    model = Waits()
    say = speaker(provider=model, session={"on_busy": "wait", "busy_timeout": 60})

    def let_the_model_reply(effect: Effect) -> None:
        if isinstance(effect, Wait):
            model.answer.set()

    with in_progress(say, model) as first:
        token = after_effect.set(let_the_model_reply)
        with testing.script(say.Chat, []):
            second = say()
        after_effect.reset(token)
        assert model.answer.is_set()
        assert second.last_result.text == first.result().last_result.text == "at last"
    assert say.said() == ["user", "assistant"]


def test_simultaneous_calls_with_one_key_are_one_turn(speaker: Speaks) -> None:
    asked: list[str] = []

    class Counts:
        def ask(self, request: Any) -> Reply:
            asked.append(request.prompt[-1].content)
            return Reply("ok")

    say = speaker(provider=Counts(), session={"on_busy": "wait", "busy_timeout": 60})
    asked.clear()
    together = threading.Barrier(6)

    def call(number: int) -> Any:
        ids = []
        for key in range(4):
            together.wait(30)
            ids.append(say(f"words {key}", f"key {key}").id)
        say.Chat._meta.database.close()
        return ids

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(call, range(6)))
    assert all(ids == found[0] for ids in found)
    assert asked == [f"words {key}" for key in range(4)]


def test_a_running_turn_refuses_another_message_under_its_key(speaker: Speaks) -> None:
    model = Waits()
    say = speaker(provider=model)
    with in_progress(say, model), pytest.raises(IdempotencyMismatch):
        say("Other words")
