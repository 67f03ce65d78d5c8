"""A turn whose process died reads as interrupted once its lease has ended, before that is stored."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentsession import testing
from agentsession._turn_state import Turn
from agentsession.actions import aget_context, alist_sessions, get_context, last_turn, list_sessions
from tests.support.web_clients import WEBS, owned_chat


def abandon(Chat: Any, **options: Any) -> Any:
    """Return the id of a session whose process died during the model call."""
    session = Chat.start_session("Hello", **options)
    with testing.crash_after(2):
        session.continue_session("Are you there?", **options)
    return session.id


def test_an_abandoned_turn_reads_as_interrupted_once_its_lease_ends(Chat: Any) -> None:
    with testing.clock() as clock:
        key = abandon(Chat)
        for status, is_abandoned in (("running", False), ("interrupted", True)):
            turns = [
                get_context(Chat, key).turn,
                asyncio.run(aget_context(Chat, key)).turn,
                last_turn(Chat.get_by_id(key)),
            ]
            assert [(turn.status, turn.is_abandoned) for turn in turns] == [(status, is_abandoned)] * 3
            assert [turn.is_open for turn in turns] == [not is_abandoned] * 3
            clock.advance(get_context(Chat, key).turn.until - clock.seconds)
        assert Chat.get_by_id(key).status == "running"  # the column has the stored status


def test_a_value_that_was_read_keeps_its_status(Chat: Any) -> None:
    with testing.clock() as clock:
        context = get_context(Chat, abandon(Chat))
        clock.advance(3600)
        assert context.turn.status == "running"


def test_resume_and_continue_use_the_stored_status(Chat: Any) -> None:
    with testing.clock() as clock:
        keys = [abandon(Chat), abandon(Chat)]
        clock.advance(3600)
        assert Chat.get_by_id(keys[0]).resume_session().last_turn.status == "completed"
        assert Chat.get_by_id(keys[1]).continue_session("Go on").last_turn.status == "completed"
    contexts = [get_context(Chat, key) for key in keys]
    assert [context.turn.is_abandoned for context in contexts] == [False, False]
    statuses = [[message.metadata.get("status") for message in context.messages] for context in contexts]
    assert statuses == [[None] * 4, [None, None, "interrupted", None, None]]


def test_a_cancelled_turn_is_not_abandoned(Chat: Any) -> None:
    with testing.clock() as clock:
        key = abandon(Chat)
        clock.advance(3600)
        turn = Chat.get_by_id(key).cancel_session().last_turn
        assert (turn.status, turn.is_abandoned, turn.until) == ("interrupted", False, None)


def test_the_record_of_an_open_stream_stays_running(Chat: Any) -> None:
    """Its heartbeat extends the lease only in the row, not in the record."""
    with testing.clock() as clock, Chat.stream_start_session("Hello") as stream:
        next(stream)
        clock.advance(3600)
        assert last_turn(stream.session).status == "running"
        list(stream)
        assert last_turn(stream.session).status == "completed"


def test_the_record_of_an_abandoned_turn_reads_as_interrupted(Chat: Any) -> None:
    with testing.clock() as clock:
        stream = Chat.stream_start_session("Hello")
        record = stream.session
        with testing.crash_after(1):
            list(stream)
        assert last_turn(record).status == "running"
        clock.advance(3600)
        assert last_turn(record).is_abandoned


@pytest.mark.layouts("document")
def test_a_list_shows_an_abandoned_turn_as_interrupted(database: Any) -> None:
    Chat = owned_chat(database)
    with testing.clock() as clock:
        key = abandon(Chat, actor="ann")
        for status in ("running", "interrupted"):
            pages = [list_sessions(Chat, actor="ann"), asyncio.run(alist_sessions(Chat, actor="ann"))]
            assert [[(each.id, each.status) for each in page.sessions] for page in pages] == [
                [(key, status)]
            ] * 2
            clock.advance(get_context(Chat, key, actor="ann").turn.until - clock.seconds)
        Chat.get_by_id(key).resume_session(actor="ann")
        assert list_sessions(Chat, actor="ann").sessions[0].status == "completed"


@pytest.mark.layouts("document")
def test_a_list_uses_the_clock_of_the_database(database: Any) -> None:
    Chat = owned_chat(database)
    key = abandon(Chat, actor="ann")
    assert list_sessions(Chat, actor="ann").sessions[0].status == "running"
    stored = Chat.get_by_id(key).context
    stored["turn"]["until"] = 1.5e9
    Chat.update(context=stored).where(Chat.id == key).execute()
    assert list_sessions(Chat, actor="ann").sessions[0].status == "interrupted"
    assert get_context(Chat, key, actor="ann").turn.is_abandoned


DAMAGED = [None, {}, {"turn": None}, {"turn": 7}, {"turn": {"until": "soon", "lease": []}}, [], "text"]


@pytest.mark.parametrize("context", DAMAGED)
@pytest.mark.layouts("document")
def test_a_list_contains_a_session_whose_context_is_damaged(database: Any, context: Any) -> None:
    Chat = owned_chat(database)
    row = Chat.create(owner="ann", status="running", context=context)
    assert [each.id for each in list_sessions(Chat, actor="ann").sessions] == [row.id]


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
def test_a_list_contains_a_session_whose_context_is_not_json(database: Any) -> None:
    Chat = owned_chat(database)
    row = Chat.create(owner="ann", status="running")
    database.execute_sql("update chat set context = '{'")
    assert [each.id for each in list_sessions(Chat, actor="ann").sessions] == [row.id]


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize("make", WEBS.values())
def test_the_routes_show_an_abandoned_turn_as_interrupted(make: Any, database: Any) -> None:
    Chat = owned_chat(database)
    web = make(Chat)
    key = abandon(Chat, actor="ann")
    for until, status in ((9e9, "running"), (1.5e9, "interrupted")):
        stored = Chat.get_by_id(key).context
        stored["turn"] |= {"until": until, "lease": 9e9}
        Chat.update(context=stored).where(Chat.id == key).execute()
        response = web("GET", f"/{key}").json
        assert (response["status"], response["turn"]["status"], response["turn"]["until"]) == (
            status,
            status,
            until,
        )
        assert web("GET", "/").json["sessions"][0]["status"] == status
    assert web("POST", f"/{key}/resume").json["turn"] == response["turn"] | {
        "status": "completed",
        "until": None,
        "usage": web("GET", f"/{key}").json["turn"]["usage"],
    }


def test_only_a_running_turn_can_be_abandoned() -> None:
    for status in ("pending", "awaiting_approval", "completed", "failed", "interrupted"):
        turn = Turn("t", status, until=10.0)
        assert turn.as_of(99.0) is turn
    assert Turn("t", "running", claim="c", until=10.0, lease=5.0).as_of(9.9).status == "running"
    assert Turn("t", "running", claim="c", until=10.0, lease=5.0).as_of(10.0).is_abandoned
