"""To delete a session: the row is gone, and only its owner can do it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from agentsession import SessionNotFound
from agentsession.actions import adelete_session, delete_session
from tests.support.async_databases import run
from tests.support.blocked_turn import Waits, a_slow_turn
from tests.support.models import chat_model
from tests.support.owned_models import Case, rows

pytestmark = pytest.mark.matrix


def test_deleting_a_session_keeps_the_others(Chat: Any) -> None:
    first, second = Chat.start_session("One"), Chat.start_session("Two")
    delete_session(Chat, first.id)
    assert [row.id for row in Chat.select()] == [second.id]
    for action in (delete_session, Chat.get_context):
        with pytest.raises(SessionNotFound):
            action(*([Chat] if action is delete_session else []), first.id)


def test_a_record_can_be_deleted(Chat: Any) -> None:
    delete_session(Chat, Chat.start_session("One"))
    assert rows(Chat) == []


@pytest.mark.parametrize("key", [UUID(int=7), "no id", "", 7, 2**80, "' or 1=1 --"])
def test_an_unknown_id_deletes_nothing(Chat: Any, key: Any) -> None:
    Chat.start_session("One")
    with pytest.raises(SessionNotFound):
        delete_session(Chat, key)
    assert Chat.select().count() == 1


def test_only_its_owner_deletes_a_session(case: Case) -> None:
    session = case.Chat.start_session("One", actor=case.ann)
    before = rows(case.Chat)
    with pytest.raises(SessionNotFound):
        delete_session(case.Chat, session.id, actor=case.bob)
    assert rows(case.Chat) == before
    delete_session(case.Chat, session.id, actor=case.ann)
    assert rows(case.Chat) == []


def test_a_turn_whose_session_is_deleted_ends_with_its_reply(database: Any) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model)
    session = Chat.start_session("One")
    with a_slow_turn(Chat, session.id, model) as slow:
        delete_session(Chat, session.id)
    with pytest.raises(SessionNotFound) as raised:
        slow.result(60)
    assert raised.value.result.text == "answer to slow"


def test_a_session_is_deleted_on_an_event_loop(Chat: Any) -> None:
    session = Chat.start_session("One")
    asyncio.run(adelete_session(Chat, session.id))
    assert rows(Chat) == []


def test_a_session_is_deleted_on_an_asynchronous_database(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        Chat = await db.run(chat_model, db)
        session = await Chat.astart_session("One")
        await adelete_session(Chat, session.id)
        with pytest.raises(SessionNotFound):
            await adelete_session(Chat, session.id)

    run(database_url, scenario)


def test_a_rollback_restores_a_deleted_session(Chat: Any) -> None:
    session = Chat.start_session("One")
    with Chat._meta.database.atomic() as transaction:
        delete_session(Chat, session.id)
        transaction.rollback()
    assert len(Chat.get_context(session.id).messages) == 2
