"""I5: a wrong clock, or a lease of another length, causes at most a takeover and loses no message."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from agentsession import LeaseLost, SessionBusy, _clock, testing
from agentsession.provider import Reply
from agentsession.provider.echo import Echo
from tests.support import servers
from tests.support.blocked_turn import Waits, a_slow_turn, off_by
from tests.support.models import chat_model, stored, texts

pytestmark = pytest.mark.matrix

TURNS = 25


@pytest.mark.parametrize("hours", [-5, 5])
@pytest.mark.parametrize("action", ["continue", "resume"])
def test_a_holder_with_a_wrong_clock_loses_its_turn_but_no_message(
    database: Any, action: str, hours: int
) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model)
    key = Chat.start_session("Hello").id
    with a_slow_turn(Chat, key, model, off_by(hours)) as slow:
        if action == "continue":
            Chat.continue_session(key, "fast")
        else:
            with testing.script(Chat, ["by another"]):
                Chat.resume_session(key)
        before = stored(Chat.get_by_id(key))
        model.answer.set()
        with pytest.raises(LeaseLost) as lost:
            slow.result()
    assert lost.value.result.text == "answer to slow"
    assert lost.value.session.id == key
    assert stored(Chat.get_by_id(key)) == before
    later = ["fast", "answer to fast"] if action == "continue" else ["by another"]
    assert texts(Chat, key)[2:] == ["slow", *later]


@pytest.mark.parametrize("hours", [-5, 5])
@pytest.mark.parametrize("action", ["continue", "resume"])
def test_a_session_abandoned_by_a_host_with_a_wrong_clock_is_free_for_others(
    database: Any, action: str, hours: int
) -> None:
    """The lease of a first turn uses the clock of its host."""
    Chat = chat_model(database)
    token = _clock.fake.set(off_by(hours))
    with testing.crash_after(1):
        Chat.start_session("Hello")
    _clock.fake.reset(token)
    (session,) = Chat.select()
    if action == "continue":
        session.continue_session("next")
    else:
        session.resume_session()
    assert texts(Chat, session)[:-1] == (["Hello", "next"] if action == "continue" else ["Hello"])
    assert session.last_turn.status == "completed"


def take_turns_at(hours: float, Chat: Any, key: Any) -> dict[str, str]:
    """Take turns with a clock that is wrong by some hours, and return the outcome of each message."""
    _clock.fake.set(off_by(hours))
    outcomes = {}
    for number in range(TURNS):
        words = f"{hours} {number}"
        try:
            assert Chat.continue_session(key, words).last_result.text.startswith(f"You said: {words} (")
            outcomes[words] = "done"
        except SessionBusy:
            outcomes[words] = "refused"
        except LeaseLost as lost:
            answered = lost.result.text.startswith(f"You said: {words} (")
            outcomes[words] = "lost" if answered else "lost without its reply"
    return outcomes


class EchoAfterTwoCalls(Echo):
    """The first two model calls overlap, so that one turn is taken over."""

    def __init__(self) -> None:
        self.two = threading.Barrier(2)
        self.number = count()

    def ask(self, request: Any) -> Reply:
        if request.prompt[-1].content != "Hello" and next(self.number) < 2:
            self.two.wait(60)
        return super().ask(request)


def test_callers_whose_clocks_differ_by_hours_store_each_message_once(database_url: str) -> None:
    Chat = chat_model(servers.open_database(database_url, pool=3), provider=EchoAfterTwoCalls())
    key = Chat.start_session("Hello").id
    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(take_turns_at, hours, Chat, key) for hours in (-3, 0, 5)]
        outcomes = {words: outcome for caller in callers for words, outcome in caller.result().items()}
    messages = Chat.get_context(key).messages[2:]
    user_texts = [message.text for message in messages if message.role == "user"]
    assert sorted(user_texts) == sorted(words for words, outcome in outcomes.items() if outcome != "refused")
    for message in messages:
        if message.role == "user":
            replies = [each.text for each in messages if each.turn == message.turn and each is not message]
            assert len(replies) == (outcomes[message.text] == "done")
            assert all(reply.startswith(f"You said: {message.text} (") for reply in replies)
    assert {"done", "lost"} <= set(outcomes.values()) <= {"done", "lost", "refused"}


def test_a_claim_lasts_for_the_lease_of_its_holder(database: Any) -> None:
    """Two versions of a program run at the same time during a deployment."""
    model = Waits()
    Old = chat_model(database, provider=model, session={"lease": 1000.0})
    New = chat_model(database, session={"lease": 30.0})
    key = Old.start_session("Hello").id
    with a_slow_turn(Old, key, model) as slow:
        with pytest.raises(SessionBusy):
            New.continue_session(key, "fast")
        model.answer.set()
        assert slow.result().last_result.text == "answer to slow"
