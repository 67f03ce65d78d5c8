"""Errors of the database whose cause is the program say what to do, and keep their type."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import peewee as pw
import pytest

from agentsession import MessageFields, SessionActions, actions, agent, agent_message, agent_session
from tests.support.models import chat_model

pytestmark = pytest.mark.matrix


def notes(raised: pytest.ExceptionInfo[BaseException]) -> list[str]:
    return list(getattr(raised.value, "__notes__", []))


def models(database: Any) -> tuple[Any, Any]:
    connection = database

    @agent_session(messages="rows", updated_attribute="updated")
    @agent(client="echo:", instruction="You help.")
    class Chat(SessionActions, pw.Model):
        context = pw.JSONField(null=True)
        updated = pw.DateTimeField(null=True)

        class Meta:
            table_name = "chat"
            database = connection

    @agent_message
    class ChatMessage(MessageFields):
        session = pw.ForeignKeyField(Chat, backref="messages", index=False)

        class Meta:
            table_name = "chat_message"
            database = connection

    return Chat, ChatMessage


ACTIONS: list[Callable[[Any], Any]] = [
    lambda Chat: Chat.start_session("Hello"),
    lambda Chat: Chat.continue_session(1, "Hello"),
    lambda Chat: list(Chat.stream_start_session("Hello")),
    lambda Chat: asyncio.run(Chat.astart_session("Hello")),
    lambda Chat: Chat.get_context(1),
    lambda Chat: Chat.cancel_session(1),
    lambda Chat: actions.list_sessions(Chat),
    lambda Chat: actions.delete_session(Chat, 1),
]
FIX = "Fix: call create_tables([Chat, ChatMessage]) on the database, or run your migrations"


@pytest.mark.layouts("document")
@pytest.mark.parametrize("action", ACTIONS)
def test_a_missing_table_is_named_with_the_way_to_create_it(database: Any, action: Any) -> None:
    Chat, _ = models(database)
    with pytest.raises(pw.DatabaseError) as raised:
        action(Chat)
    assert len(notes(raised)) == 1
    assert "the database has no table 'chat'\n" in notes(raised)[0]
    assert FIX in notes(raised)[0]


@pytest.mark.layouts("document")
def test_a_missing_table_of_messages_is_named(database: Any) -> None:
    Chat, ChatMessage = models(database)
    with database.connection_context():
        database.create_tables([Chat])
    with pytest.raises(pw.DatabaseError) as raised:
        Chat.start_session("Hello")
    assert "the database has no table 'chat_message'\n" in notes(raised)[0]
    assert FIX in notes(raised)[0]
    with database.connection_context():
        database.create_tables([ChatMessage])
    assert Chat.start_session("Hello").get_context().count == 2


def test_a_missing_column_is_distinguished_from_a_missing_table(database: Any) -> None:
    Chat = chat_model(database)
    with database.connection_context():
        database.execute_sql("alter table chat drop column updated")
    with pytest.raises(pw.DatabaseError) as raised:
        Chat.start_session("Hello")
    assert "lacks a column that the model declares" in notes(raised)[0]


def test_a_column_without_a_value_is_named(database: Any) -> None:
    Chat = chat_model(database)
    Chat._meta.fields["title"].default = None
    Chat._meta.defaults.pop(Chat.title)
    Chat._meta._default_by_name.pop("title")
    with pytest.raises(pw.DatabaseError) as raised:
        Chat.start_session("Hello")
    assert (
        "the column 'title' has no value\n  Fix: pass attributes={'title': …}, or declare" in notes(raised)[0]
    )
    assert Chat.start_session("Hello", attributes={"title": "given"}).title == "given"


def test_another_error_has_no_note() -> None:
    connection = pw.SqliteDatabase(":memory:")
    Chat, ChatMessage = models(connection)
    connection.create_tables([Chat, ChatMessage])
    connection.execute_sql(
        "create trigger no before insert on chat begin select raise(abort, 'not now'); end"
    )
    with pytest.raises(pw.IntegrityError, match="not now") as raised:
        Chat.start_session("Hello")
    assert notes(raised) == []


def test_the_log_of_a_router_shows_the_note(caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:
    flask = pytest.importorskip("flask")
    from agentsession.contrib.flask import session_blueprint

    Chat, _ = models(
        pw.SqliteDatabase(tmp_path / "chat.db", pragmas={"journal_mode": "wal", "busy_timeout": 1})
    )
    app = flask.Flask("shop")
    app.register_blueprint(session_blueprint(Chat), url_prefix="/chats")
    answer = app.test_client().post("/chats/", json={"message": "Hello"})
    assert answer.status_code == 500
    logged = [
        "".join(traceback.format_exception(*record.exc_info)) for record in caplog.records if record.exc_info
    ]
    assert any(FIX in text for text in logged)
