"""Messages as rows: what stands in the tables, what a user can do with it, and that nothing grows with it."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import uuid4

import peewee as pw
import pytest

from agentsession import (
    ContextUnreadable,
    InputInvalid,
    LayoutMismatch,
    MessageFields,
    SessionActions,
    SessionNotFound,
    actions,
    agent,
    agent_message,
    agent_session,
    info,
    testing,
)
from agentsession.provider import Reply
from tests.support.models import Answer, chat_model, stored, texts

pytestmark = pytest.mark.matrix("full")

rows_only = pytest.mark.layouts("rows")


class Parrot:
    def ask(self, request: Any) -> Reply:
        return Reply(request.prompt[-1].content)


@pytest.fixture
def Chat(database: Any) -> Any:
    return chat_model(database, provider=Parrot())


@pytest.fixture
def Said(Chat: Any) -> Any:
    """The model of the messages."""
    return info.message_model(Chat)


@rows_only
def test_each_message_is_a_row_and_the_context_keeps_the_head(Chat: Any, Said: Any) -> None:
    session = Chat.start_session("One")
    session.continue_session("Two")
    found = Said.select().where(Said.session == session).order_by(Said.seq)
    assert [(row.seq, row.role, row.content) for row in found] == [
        (0, "user", "One"),
        (1, "assistant", "One"),
        (2, "user", "Two"),
        (3, "assistant", "Two"),
    ]
    assert [row.turn for row in found] == [message.turn for message in session.get_context().messages]
    assert [row.metadata for row in found] == [m.metadata for m in session.get_context().messages]
    head = Chat.get_by_id(session.id).context
    assert (head["layout"], head["count"], head["turns"], head["revision"]) == ("rows", 4, 2, 4)
    assert (head["turn"]["status"], head["reply"]["content"]) == ("completed", "Two")
    assert "messages" not in head
    assert session.context == head


@rows_only
def test_rows_can_be_queried_through_the_users_own_backref(Chat: Any, Said: Any) -> None:
    sessions = [Chat.start_session(f"Word {number}") for number in range(3)]
    sessions[1].continue_session("More")
    query = sessions[1].said.where(Said.role == "user").order_by(Said.seq)
    assert [row.content for row in query] == ["Word 1", "More"]
    per_session = (
        Chat.select(Chat.id, pw.fn.COUNT(Said.id).alias("n"))
        .join(Said)
        .group_by(Chat.id)
        .order_by(pw.SQL("n"))
    )
    assert [row.n for row in per_session] == [2, 2, 4]


@rows_only
def test_the_latest_turn_and_reply_take_no_query(Chat: Any) -> None:
    key = Chat.start_session("One").id
    Chat.continue_session(key, "Two", run=False)
    record = Chat.get_by_id(key)
    Chat._meta.database.statements.clear()
    assert (record.last_result.text, record.last_turn.status) == ("One", "pending")
    assert Chat._meta.database.statements == []


@rows_only
def test_structured_content_is_read_back_equal(database: Any) -> None:
    Chat = chat_model(database, input_schema=dict[str, int], output_schema=Answer)
    with testing.script(Chat, [Answer(content="ja")]):
        session = Chat.start_session({"b": 1, "a": 2})
    asked, said = session.get_context().messages
    assert asked.content == {"b": 1, "a": 2}
    assert said.parse(Answer) == Chat.get_by_id(session.id).last_result.output == Answer(content="ja")


@rows_only
def test_a_deleted_session_leaves_no_rows(Chat: Any, Said: Any) -> None:
    kept, gone = Chat.start_session("Kept"), Chat.start_session("Gone")
    actions.delete_session(Chat, gone)
    assert {row.session_id for row in Said.select()} == {kept.id}
    with pytest.raises(SessionNotFound):
        actions.delete_session(Chat, gone)


@rows_only
def test_deleted_rows_are_absent_from_the_context(Chat: Any, Said: Any) -> None:
    session = Chat.start_session("Secret")
    session.continue_session("Two")
    Said.delete().where(Said.session == session, Said.seq < 2).execute()
    with testing.script(Chat, ["ok"]) as requests:
        session.continue_session("Three")
    assert [shown.content for shown in requests[-1]] == ["You help.", "Two", "Two", "Three"]
    assert [row.seq for row in Said.select().order_by(Said.seq)] == [2, 3, 4, 5]
    Said.delete().where(Said.session == session).execute()
    assert (session.get_context().messages, session.get_context().count) == ((), 6)
    session.continue_session("Four")
    assert texts(Chat, session) == ["Four", "Four"]


@rows_only
def test_added_rows_do_not_block_the_next_turn(Chat: Any, Said: Any) -> None:
    session = Chat.start_session("One")
    Said.create(session=session, seq=2, turn="mine", role="user", content="By hand", metadata={})
    session.continue_session("Two")
    assert texts(Chat, session)[:4] == ["One", "One", "By hand", "Two"]
    assert [row.seq for row in Said.select().order_by(Said.seq)] == [0, 1, 2, 3, 4]


@rows_only
@pytest.mark.backends("sqlite")
@pytest.mark.parametrize(
    ("column", "value"), [("content", "{broken"), ("content", "5"), ("metadata", "[]"), ("content", "null")]
)
def test_a_row_that_is_not_a_message_is_named(Chat: Any, Said: Any, column: str, value: str) -> None:
    session = Chat.start_session("One")
    session.continue_session("Two")
    sql = f"update chat_message set {column} = ? where seq = 2"
    Chat._meta.database.execute_sql(sql, (value,))
    with pytest.raises(ContextUnreadable, match=r"message 2\] the row is not a message"):
        session.get_context()
    with pytest.raises(ContextUnreadable):
        session.continue_session("Three")
    assert Said.select().count() == 4


@rows_only
def test_the_other_layout_is_refused_and_nothing_is_written(Chat: Any, Said: Any) -> None:
    Documents = chat_model(Chat._meta.database, create=False, session={"messages": "document"})
    in_rows, in_document = Chat.start_session("Rows").id, Documents.start_session("Document").id
    before = [stored(Chat.get_by_id(in_rows)), Documents.get_by_id(in_document).context]
    for model, key, found in ((Documents, in_rows, "rows"), (Chat, in_document, "document")):
        for act in (
            lambda model=model, key=key: model.continue_session(key, "Lost?"),
            lambda model=model, key=key: model.continue_session(key, "Lost?", run=False),
            lambda model=model, key=key: model.resume_session(key),
            lambda model=model, key=key: model.cancel_session(key),
            lambda model=model, key=key: model.get_context(key),
        ):
            with pytest.raises(LayoutMismatch, match=f"the session is stored as {found}") as raised:
                act()
            assert "python -m agentsession migrate" in raised.value.fix
    assert [stored(Chat.get_by_id(in_rows)), Documents.get_by_id(in_document).context] == before
    assert Said.select().count() == 2


@rows_only
def test_an_old_map_without_messages_is_an_empty_session(Chat: Any) -> None:
    for map_ in (None, {}, {"messages": []}):
        session = Chat.create(id=uuid4(), context=map_)
        Chat.continue_session(session.id, "First")
        assert texts(Chat, session.id) == ["First", "First"]


@rows_only
def test_further_columns_get_their_defaults(database: Any) -> None:
    connection = database

    @agent_session(messages="rows")
    @agent(client="echo:", instruction="You help.")
    class Talk(SessionActions, pw.Model):
        context = pw.JSONField(null=True)

        class Meta:
            database = connection

    numbers = iter(range(100))

    @agent_message
    class Line(MessageFields):
        id = pw.UUIDField(primary_key=True, default=uuid4)
        talk = pw.ForeignKeyField(Talk, backref="lines", on_delete="CASCADE", index=False)
        number = pw.IntegerField(default=lambda: next(numbers))
        created = pw.DateTimeField(default=datetime.datetime.now)
        note = pw.TextField(null=True)
        kind = pw.CharField(default="chat")

        class Meta:
            database = connection
            table_name = "lines"
            indexes = ((("talk", "seq"), True), (("talk", "turn"), False))

    with database.connection_context():
        database.create_tables([Talk, Line])
    talk = Talk.start_session("One")
    talk.continue_session("Two")
    lines = list(talk.lines.order_by(Line.seq))
    assert [(line.number, line.kind, line.note) for line in lines] == [(n, "chat", None) for n in range(4)]
    assert len({line.id for line in lines}) == 4
    assert all(isinstance(line.created, datetime.datetime) for line in lines)


@pytest.mark.parametrize("count", [2, 5])
def test_pages_from_the_end_make_up_the_conversation(Chat: Any, count: int) -> None:
    session = Chat.start_session("0")
    for number in range(1, 6):
        session.continue_session(str(number))
    whole = Chat.get_context(session.id)
    assert (whole.first, whole.count, len(whole.messages)) == (0, 12, 12)
    page = session.get_context(last=count)
    messages = page.messages
    while page.first > 0:
        assert len(page.messages) == count
        assert (page.count, page.turn, page.revision) == (12, whole.turn, whole.revision)
        page = session.get_context(last=count, before=page.first)
        messages = page.messages + messages
    assert messages == whole.messages
    assert session.get_context(before=3).messages == whole.messages[:3]
    assert session.get_context(last=99, before=99).messages == whole.messages
    assert session.get_context(last=1, before=0).messages == ()


def test_only_the_page_is_read(Chat: Any, Said: Any) -> None:
    session = Chat.start_session("0")
    session.continue_session("1")
    Chat._meta.database.statements.clear()
    assert session.get_context(last=1).first == 3
    statements = Chat._meta.database.statements
    assert len(statements) == (1 if Said is None else 2)
    assert Said is None or "LIMIT" in statements[1]


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize(
    "page", [{"last": 0}, {"last": -1}, {"last": "5"}, {"last": True}, {"before": -1}, {"before": 2**80}]
)
def test_an_invalid_page_is_refused(Chat: Any, page: Any) -> None:
    session = Chat.start_session("0")
    with pytest.raises(InputInvalid, match="not a whole number from"):
        session.get_context(**page)


@rows_only
def test_a_missing_column_is_found_by_peewees_tools(database: Any) -> None:
    """Between versions our fields are changed like all others: `pwmigrate`, or `schema_diff`."""
    from playhouse.schema_diff import diff_models

    Chat = chat_model(database)
    Said = info.message_model(Chat)
    with database.connection_context():
        assert not diff_models(database, [Said])
        (index,) = [each for each in database.get_indexes("chat_message") if each.columns[-1] == "turn"]
        on = " on chat_message" if isinstance(database, pw.MySQLDatabase) else ""
        database.execute_sql(f"drop index {index.name}{on}")
        database.execute_sql("alter table chat_message drop column turn")
        assert "turn" in str(diff_models(database, [Said]))
