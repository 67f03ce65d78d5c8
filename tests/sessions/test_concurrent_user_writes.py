"""What users do to the tables beside the library, also while a turn runs: nothing of it is overwritten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import peewee as pw
import pytest

from agentsession import (
    DslError,
    LeaseLost,
    MessageFields,
    SessionActions,
    actions,
    agent,
    agent_message,
    agent_session,
    info,
)
from agentsession._drive.stepper import after_effect
from agentsession._turn.effects import Load
from agentsession.provider import Reply
from tests.support.layouts import layout_of
from tests.support.models import chat_model, stored

pytestmark = pytest.mark.matrix

rows_only = pytest.mark.layouts("rows")


class Meanwhile:
    """Says "ok", after something has happened."""

    happens: Callable[[], object] = staticmethod(lambda: None)

    def ask(self, request: Any) -> Reply:
        happens, self.happens = self.happens, lambda: None
        happens()
        return Reply("ok")


def tagged(Chat: Any) -> Callable[[], object]:
    """Puts a key of the user's beside ours, by Peewee."""

    def tag() -> None:
        with Chat._meta.database.connection_context():
            assert Chat.update(context=Chat.context["tag"].set("mine")).execute() == 1

    return tag


def test_a_key_that_is_set_during_a_model_call_is_kept(database: Any) -> None:
    model = Meanwhile()
    Chat = chat_model(database, provider=model)
    session = Chat.start_session("one")
    model.happens = tagged(Chat)
    session.continue_session("two")
    assert stored(session)["tag"] == "mine"
    session.continue_session("three")
    assert (stored(session)["tag"], len(stored(session)["messages"])) == ("mine", 6)


@pytest.mark.backends("sqlite")
def test_a_key_that_is_set_between_a_read_and_its_claim_is_kept(database: Any) -> None:
    Chat = chat_model(database, provider=Meanwhile())
    key = Chat.start_session("one").id
    with tagged_once_read(Chat):
        Chat.continue_session(key, "two")
    record = Chat.get_by_id(key)
    assert (stored(record)["tag"], len(stored(record)["messages"])) == ("mine", 4)


@contextmanager
def tagged_once_read(Chat: Any) -> Iterator[None]:
    """By another connection, after the session was read and before its claim is written."""
    token = after_effect.set(lambda effect: tagged(Chat)() if isinstance(effect, Load) else None)
    yield
    after_effect.reset(token)


def test_a_session_that_was_deleted_and_created_again_is_not_overwritten(database: Any) -> None:
    model = Meanwhile()
    Chat = chat_model(database, provider=model)

    def begin_again() -> None:
        with database.connection_context():
            actions.delete_session(Chat, Chat.select().get().id)
        Chat.start_session("second", idempotency_key="k", run=False)

    model.happens = begin_again
    with pytest.raises(LeaseLost) as lost:
        Chat.start_session("first", idempotency_key="k")
    assert lost.value.result.text == "ok"
    (record,) = Chat.select()
    assert [message.text for message in Chat.get_context(record).messages] == ["second"]
    assert record.status == "pending"


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
def test_an_integer_too_large_for_a_float_survives_a_turn(database: Any) -> None:
    Chat = chat_model(database)
    session = Chat.start_session("one")
    ((text,),) = database.execute_sql("select context from chat").fetchall()
    text = text.replace("{", '{"tag":123456789012345678901234567890,', 1)
    database.execute_sql("update chat set context = ?", (text,))
    session.continue_session("two")
    ((after,),) = database.execute_sql("select context from chat").fetchall()
    assert '"tag":123456789012345678901234567890' in after


@rows_only
def test_further_columns_may_be_json_and_have_any_name(database: Any) -> None:
    connection = database

    @agent_session(**layout_of(database))
    @agent(client="echo:", instruction="You help.")
    class Talk(SessionActions, pw.Model):
        context = pw.JSONField(null=True)

        class Meta:
            database = connection

    @agent_message
    class Line(MessageFields):
        session = pw.ForeignKeyField(Talk, backref="lines", on_delete="CASCADE", index=False)
        own = pw.JSONField(default=dict)
        content2 = pw.CharField(default="mine")

        class Meta:
            database = connection

    with database.connection_context():
        database.create_tables([Talk, Line])
    talk = Talk.start_session("0")
    talk.continue_session("1")
    actions.migrate(Talk, to="document")
    document = Talk.get_by_id(talk.id).context
    messages = [{**each, "id": f"t:{n}", "turn": "t"} for n, each in enumerate(document["messages"] * 12)]
    Talk.update(context=document | {"messages": messages}).execute()
    assert actions.migrate(Talk).messages == 48
    assert {(line.content2, str(line.own)) for line in talk.lines} == {("mine", "{}")}


@rows_only
def test_a_pinned_instruction_that_was_deleted_is_pinned_once_more(database: Any) -> None:
    Chat = chat_model(database, provider=Meanwhile(), session={"history_turns": 4, "pin_instruction": True})
    Said = info.message_model(Chat)
    session = Chat.start_session("0")
    Said.delete().where(Said.role == "system").execute()
    for number in range(1, 9):
        session.continue_session(str(number))
    assert Said.select().where(Said.role == "system").count() == 1


@rows_only
@pytest.mark.backends("sqlite")
def test_two_databases_are_refused(database: Any, tmp_path: Any) -> None:
    Chat = chat_model(database)
    other = pw.SqliteDatabase(tmp_path / "other.db")
    with other.bind_ctx([Chat], bind_backrefs=False), pytest.raises(DslError, match="another database"):
        Chat.start_session("one")


@rows_only
def test_a_session_that_cannot_be_moved_does_not_stop_the_others(database: Any) -> None:
    Documents = chat_model(database, session={"messages": "document"})
    Chat = chat_model(database)
    keys = sorted((Documents.start_session(str(number)).id for number in range(3)), key=str)
    map_ = Documents.get_by_id(keys[1]).context
    if isinstance(database, pw.SqliteDatabase):
        database.execute_sql("update chat set context = '{oops' where id = ?", (keys[1].hex,))
    else:
        map_["messages"][0]["role"] = "r" * 40
        Documents.update(context=map_).where(Documents.id == keys[1]).execute()
    told: list[int] = []
    moved = actions.migrate(Chat, progress=lambda moved: told.append(moved.moved))
    assert (moved.moved, list(moved.failed), len(told)) == (2, [keys[1]], 3)
