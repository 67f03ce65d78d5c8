"""What has come of a streamed reply is stored while it comes: for others to read, and for what may happen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from agentsession import SessionBusy, TextDelta, _clock, testing
from agentsession._store.session_store import SMALL
from tests.support.layouts import put_rows
from tests.support.lease_watch import SHORT, eventually
from tests.support.models import chat_model
from tests.support.slow_replies import HALF, SAID, Halves

pytestmark = pytest.mark.matrix

WORDS = "tell me all"


def turn_of(Chat: Any) -> Any:
    return Chat.get_context(Chat.select(Chat.id).get().id).turn


def heard(stream: Any, pieces: int) -> None:
    """Follow it until so many pieces of text have come."""
    while pieces:
        pieces -= isinstance(next(stream), TextDelta)


def test_the_partial_reply_is_stored_and_extends_the_lease(database: Any, at: _clock.FakeClock) -> None:
    Chat = chat_model(database, provider=Halves())
    with Chat.stream_start_session(WORDS) as stream:
        heard(stream, 1)
        assert turn_of(Chat).until == pytest.approx(at.seconds + 30)
        at.advance(10)
        heard(stream, 1)
        turn = turn_of(Chat)
        assert (turn.status, turn.partial) == ("running", HALF[0])
        assert turn.until == pytest.approx(at.seconds + 30)
        assert Chat.select().get().last_turn.partial == HALF[0]


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
def test_only_the_heartbeat_stores_the_partial_reply_of_a_large_document(
    database: Any, at: _clock.FakeClock
) -> None:
    Chat = chat_model(database, provider=Halves(), session=SHORT)
    for size in (SMALL // 2, SMALL):
        put_rows(Chat, [])
        with Chat.stream_start_session("x" * size) as stream:
            heard(stream, 1)
            database.statements.clear()
            heard(stream, 1)
            by_itself = [each for each in database.statements if each.startswith("UPDATE")]
            assert bool(by_itself) == (size < SMALL)
            eventually(lambda: turn_of(Chat).partial == SAID)


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("rows")
def test_in_rows_the_partial_reply_of_a_long_conversation_is_stored_as_it_arrives(
    database: Any, at: _clock.FakeClock
) -> None:
    Chat = chat_model(database, provider=Halves())
    session = Chat.start_session("fast " + "x" * SMALL)
    with session.stream_continue_session(WORDS) as stream:
        heard(stream, 2)
        assert turn_of(Chat).partial == HALF[0]


KILLED = """
import sys
from tests.support.slow_replies import Halves
from tests.support.layouts import put_rows
from tests.support.models import chat_model, open_database
Chat = chat_model(open_database(sys.argv[1]), create=False, provider=Halves(), session={"lease": 1.0})
for event in Chat.stream_continue_session(sys.argv[2], "tell me all"):
    pass
"""


def left_by_a_killed_process(database: Any, run: Callable[[Any, Any], Any]) -> Any:
    """A process is killed in the middle of a reply, and this is what is called when its lease is over."""
    Chat = chat_model(database, session={"lease": 1.0})
    session = Chat.start_session("Before")
    command = [sys.executable, "-c", KILLED, database.url, str(session.id)]
    with subprocess.Popen(command) as process:
        try:
            eventually(lambda: turn_of(Chat).partial)
        finally:
            process.kill()

    def is_free() -> bool:
        try:
            run(Chat, session)
        except SessionBusy:
            return False
        return True

    eventually(is_free)
    return Chat.get_context(session)


def test_the_partial_reply_of_a_killed_process_is_in_the_transcript(database: Any) -> None:
    def go_on(Chat: Any, session: Any) -> None:
        with testing.script(Chat, lambda prompt: "more"):
            session.continue_session("And then?")

    _, _, asked, partial, further, reply = left_by_a_killed_process(database, go_on).messages
    assert (asked.text, asked.metadata["status"]) == (WORDS, "interrupted")
    assert SAID.startswith(partial.text)
    assert (partial.role, partial.metadata) == ("assistant", {"status": "interrupted"})
    assert (further.text, reply.text) == ("And then?", "more")


def test_the_resumed_turn_of_a_killed_process_has_one_reply(database: Any) -> None:
    def again(Chat: Any, session: Any) -> None:
        with testing.script(Chat, lambda prompt: "all of it"):
            session.resume_session()

    _, _, asked, reply = left_by_a_killed_process(database, again).messages
    (partial,) = asked.metadata["partials"]
    assert SAID.startswith(partial)
    assert (reply.text, reply.metadata.get("status")) == ("all of it", None)
