"""I3, I5: one turn runs at a time. A call that loses its claim writes nothing and raises an error."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agentsession import LeaseLost, SessionBusy, SessionNotFound, testing
from tests.support.blocked_turn import Waits, a_slow_turn
from tests.support.models import chat_model, let_the_lease_run_out, stored, texts

pytestmark = pytest.mark.matrix


def test_a_second_turn_is_refused_while_one_runs_and_stores_nothing(database: Any) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model)
    session = Chat.start_session("Hello")
    with a_slow_turn(Chat, session.id, model) as slow:
        before = stored(session)
        for action in (lambda: session.continue_session("fast"), session.resume_session):
            with pytest.raises(SessionBusy, match="a turn has been running for") as busy:
                action()
            assert busy.value.status == "running"
            assert busy.value.until - busy.value.since == pytest.approx(30)
        assert stored(session) == before
        model.answer.set()
        assert slow.result().last_result.text == "answer to slow"


def test_a_holder_that_lost_its_lease_cannot_write(database: Any) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model)
    session = Chat.start_session("Hello")
    with a_slow_turn(Chat, session.id, model) as slow:
        let_the_lease_run_out(Chat, session.id)
        Chat.continue_session(session.id, "fast")
        before = stored(session)
        model.answer.set()
        with pytest.raises(LeaseLost) as lost:
            slow.result()
    assert lost.value.result.text == "answer to slow"
    assert stored(session) == before
    assert texts(Chat, session)[2:] == ["slow", "fast", "answer to fast"]


def test_resuming_takes_a_turn_from_its_late_holder(database: Any) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model)
    session = Chat.start_session("Hello")
    with a_slow_turn(Chat, session.id, model) as slow:
        let_the_lease_run_out(Chat, session.id)
        with testing.script(Chat, ["by another"]):
            Chat.resume_session(session.id)
        model.answer.set()
        with pytest.raises(LeaseLost):
            slow.result()
    assert texts(Chat, session)[2:] == ["slow", "by another"]


def test_deleting_a_row_during_its_turn_raises_an_error_with_the_reply(database: Any) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model)
    session = Chat.start_session("Hello")
    with a_slow_turn(Chat, session.id, model) as slow:
        with database.connection_context():
            session.delete_instance()
        model.answer.set()
        with pytest.raises(SessionNotFound) as error_info:
            slow.result()
    assert error_info.value.result.text == "answer to slow"


def test_a_call_that_loses_the_claim_writes_nothing_and_continues_from_the_winner(Chat: Any) -> None:
    session = Chat.start_session("Hello")
    from agentsession._drive.stepper import after_effect
    from agentsession._turn.effects import Claim, Load

    seen: list[str] = []

    def overtake(effect: Any) -> None:
        seen.append(type(effect).__name__)
        if isinstance(effect, Load) and seen.count("Load") == 1:
            token = after_effect.set(None)
            Chat.continue_session(session.id, "first")
            after_effect.reset(token)

    token = after_effect.set(overtake)
    with testing.script(Chat, ["one", "two"]) as prompts:
        session.continue_session("second")
    after_effect.reset(token)
    assert seen[:5] == ["Load", "Prepare", "Claim", "Load", "Prepare"]
    assert Claim.__name__ in seen
    assert texts(Chat, session)[2:] == ["first", "one", "second", "two"]
    assert prompts[1][-2].content == "one"


def test_a_lease_expires_by_the_clock_of_the_database(database: Any) -> None:
    Chat = chat_model(database, session={"lease": 1.0})
    session = Chat.start_session("Hello")
    with testing.crash_after(2):
        session.continue_session("left")
    with pytest.raises(SessionBusy):
        session.resume_session()
    time.sleep(1.05)
    assert session.resume_session().last_result.text.startswith("You said: left")
