"""I3 to I6: interleaved calls on one session store each acknowledged message once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import peewee as pw
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from agentsession import _clock
from agentsession._turn.effects import CallModel
from tests.support.interleaving import OVER, THE_END, Sessions
from tests.support.invariants import LEASE
from tests.support.models import Answer, chat_model
from tests.support.stepped_calls import WRITES

pytestmark = pytest.mark.matrix


@pytest.fixture
def sessions(database: Any) -> Iterator[Callable[[], Sessions]]:
    time = _clock.FakeClock(0.0)
    token = _clock.fake.set(time)
    with database.connection_context():
        Chat = chat_model(database, output_schema=Answer, session={"lease": LEASE})
        yield lambda: Sessions(Chat, time)
    _clock.fake.reset(token)


MORE = int(os.environ.get("AGENTSESSION_TEST_EXAMPLES", "0"))
"""The number of random interleavings to try instead of the same ones in each run."""


def test_any_interleaving_stores_each_acknowledged_message_once(
    database: Any, sessions: Callable[[], Sessions]
) -> None:
    usual = 50 if isinstance(database, pw.SqliteDatabase) else 8
    run = settings(
        max_examples=MORE or usual,
        stateful_step_count=40,
        derandomize=not MORE,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(sessions, settings=run)


@pytest.mark.parametrize("other", ["answered", "asking", "failed", "continued", "cancelled"])
@pytest.mark.parametrize("run", [True, False], ids=["run", "run_later"])
@pytest.mark.parametrize("action", ["start", "continue"])
def test_a_message_taken_over_during_an_unconfirmed_write_is_stored_once(
    sessions: Callable[[], Sessions], action: str, run: bool, other: str
) -> None:
    play = sessions()
    if action == "start":
        play.a_session_begins(keyed=False, run=run, upto=WRITES)
    else:
        play.a_session_begins(keyed=False, run=True, upto=THE_END)
        play.continue_(0.0, keyed=False, run=run, patience=0.0, upto=WRITES)
    play.the_answer_is_lost(0, "stored")
    if other == "cancelled":
        play.cancel(upto=THE_END)
    else:
        play.resume(OVER, patience=0.0, upto=THE_END if other == "answered" else (CallModel,))
    if other == "failed":
        play.the_model_does_not_answer(0, "down")
    if other == "continued":
        play.continue_(OVER, keyed=False, run=True, patience=0.0, upto=THE_END)
    play.go_on(0, THE_END)
    play.teardown()


@pytest.mark.parametrize("run", [True, False], ids=["run", "run_later"])
def test_a_start_repeated_after_its_turn_returns_the_stored_result(
    sessions: Callable[[], Sessions], run: bool
) -> None:
    play = sessions()
    play.a_session_begins(keyed=True, run=False, upto=THE_END)
    play.resume(0.0, patience=0.0, upto=THE_END)
    play.say_it_again(0.0, key=0, run=run, patience=0.0, upto=THE_END)
    play.teardown()


@pytest.mark.parametrize("end", ["left", "down", "gone", "gone_and_away", "dies", "answers"])
@pytest.mark.parametrize("cancelled", [True, False])
@pytest.mark.parametrize("then", ["resume", "continue"])
def test_a_partial_reply_is_kept_however_its_turn_ends(
    sessions: Callable[[], Sessions], then: str, cancelled: bool, end: str
) -> None:
    play = sessions()
    play.a_session_begins(keyed=False, run=True, upto=(CallModel,))
    play.the_heart_beats(0, comes=True)
    if cancelled:
        play.cancel(upto=THE_END)
        play.the_heart_beats(0, comes=True)
    if end in ("left", "down"):
        play.the_model_does_not_answer(0, end, midway=True)
    elif end == "dies":
        play.its_process_dies(0)
    elif cancelled and end != "answers":
        play.it_is_told_that_its_claim_is_gone(0)
        if end == "gone_and_away":
            play.a_read_fails_as_well(0)
    while play.actors:
        play.go_on(0, THE_END)
    if then == "resume" and play.context.turn.status != "completed":
        play.resume(OVER, patience=0.0, upto=THE_END)
    play.time_passes(OVER)
    play.teardown()
    assert play.context.turn is not None
    assert play.context.turn.status == "completed"


@pytest.mark.parametrize("first", ["left", "down"])
def test_each_partial_reply_of_a_repeatedly_resumed_turn_is_kept(
    sessions: Callable[[], Sessions], first: str
) -> None:
    play = sessions()
    play.a_session_begins(keyed=False, run=True, upto=(CallModel,))
    play.the_model_does_not_answer(0, first, midway=True)
    play.go_on(0, THE_END)
    play.resume(0.0, patience=0.0, upto=(CallModel,))
    play.the_heart_beats(0, comes=True)
    play.its_process_dies(0)
    play.resume(OVER, patience=0.0, upto=(CallModel,))
    play.the_model_does_not_answer(0, "unfit")
    play.go_on(0, (CallModel,))
    play.the_heart_beats(0, comes=True)
    play.cancel(upto=THE_END)
    play.its_process_dies(0)
    play.resume(0.0, patience=0.0, upto=THE_END)
    assert len(play.context.messages[0].metadata["partials"]) == 3
    assert len(play.context.messages[0].metadata["attempts"]) == 1
    play.teardown()
