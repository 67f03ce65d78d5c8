"""`MessageFields` beside a project's own base class: both orders give the same table."""

from __future__ import annotations

from types import new_class
from typing import Any
from uuid import UUID, uuid4

import peewee as pw
import pytest

from agentsession import MessageFields, agent, agent_message, agent_session, info

pytestmark = pytest.mark.matrix

DATABASE = pw.SqliteDatabase(":memory:")


class Base(pw.Model):
    class Meta:
        database = DATABASE
        legacy_table_names = False


class Stamped(Base):
    """A base with a key, a column, an index and options of its own."""

    id = pw.UUIDField(primary_key=True, default=uuid4)
    created = pw.IntegerField(default=7)

    class Meta:
        indexes = ((("created",), False),)
        strict_tables = False
        team = "support"


class Rated(MessageFields):
    """Columns of a message that several models share; it has no database."""

    rating = pw.IntegerField(null=True)


def session_model(base: Any = Base) -> Any:
    named = {"context": pw.JSONField(null=True), "__module__": __name__}
    model = new_class("Chat", (base,), exec_body=lambda namespace: namespace.update(named))
    return agent_session(messages="rows")(agent(client="echo:", instruction="x")(model))


def message_model(bases: tuple[Any, ...], session: Any, meta: Any = None) -> Any:
    key = pw.ForeignKeyField(session, backref="messages", on_delete="CASCADE", index=False)
    named = {"session": key, "__module__": __name__, **({"Meta": meta} if meta else {})}
    return new_class("ChatMessage", bases, exec_body=lambda namespace: namespace.update(named))


def statements(model: Any) -> list[str]:
    """What `create_tables` would run."""
    schema = model._schema
    queries = [schema._create_table(safe=False), *schema._create_indexes(safe=False)]
    return [query.query()[0] for query in queries]


class Plain(pw.Model):
    seq = pw.IntegerField()
    turn = pw.CharField(max_length=255)
    role = pw.CharField(max_length=20)
    content = pw.JSONField()
    metadata = pw.JSONField()

    class Meta:
        database = DATABASE
        legacy_table_names = False


BOTH = [(MessageFields, Base), (Base, MessageFields)]
ORDERS = [
    *BOTH,
    (MessageFields, Base, pw.Model),
    (Rated, Base),
    (Base, Rated),
    (MessageFields, Stamped),
    (Stamped, MessageFields),
    (Rated, Stamped),
]


@pytest.mark.parametrize("bases", ORDERS)
def test_each_order_is_a_model_of_messages_that_works(bases: tuple[Any, ...]) -> None:
    Chat = session_model()
    Said = agent_message(message_model(bases, Chat))
    assert info.message_model(Chat) is Said
    with DATABASE.connection_context():
        DATABASE.create_tables([Chat, Said])
        session = Chat.start_session("Hello")
        session.continue_session("And now?")
        assert [message.content for message in Said.select().order_by(Said.seq)] == [
            message.content for message in session.get_context().messages
        ]
        indexes = {(*index.columns,): index.unique for index in DATABASE.get_indexes("chat_message")}
        assert (indexes["session_id", "seq"], indexes["session_id", "turn"]) == (True, False)


@pytest.mark.parametrize("bases", BOTH)
def test_each_order_creates_the_table_that_is_written_out(bases: tuple[Any, ...]) -> None:
    Chat = session_model()
    indexes = ((("session", "seq"), True), (("session", "turn"), False))
    written_out = message_model((Plain,), Chat, type("Meta", (), {"indexes": indexes}))
    assert statements(message_model(bases, session_model())) == statements(written_out)


def test_both_orders_create_the_same_table_with_all_that_the_base_has() -> None:
    first, second = (
        message_model(bases, session_model())
        for bases in [(MessageFields, Stamped), (Stamped, MessageFields)]
    )
    assert statements(first) == statements(second)
    for model in (first, second):
        assert isinstance(model._meta.primary_key, pw.UUIDField)
        assert (model._meta.database, model._meta.team) == (DATABASE, "support")
        assert [index[0] for index in model._meta.indexes] == [
            ("created",), ("session", "seq"), ("session", "turn"),
        ]  # fmt: skip


@pytest.mark.parametrize("bases", BOTH)
def test_what_the_model_says_itself_counts(bases: tuple[Any, ...]) -> None:
    other = pw.SqliteDatabase(":memory:")
    meta = type(
        "Meta", (), {"database": other, "indexes": ((("session", "turn"), False),), "table_name": "t"}
    )
    model = message_model(bases, session_model(), meta)
    assert (model._meta.database, model._meta.table_name) == (other, "t")
    assert model._meta.indexes == [(("session", "turn"), False)]


def test_a_key_of_the_base_is_that_of_each_message() -> None:
    Chat = session_model(Stamped)
    Said = agent_message(message_model((MessageFields, Stamped), Chat))
    with DATABASE.connection_context():
        DATABASE.create_tables([Chat, Said])
        Chat.start_session("Hello")
        assert {type(message.id) for message in Said.select()} == {UUID}


def test_the_fields_alone_are_a_base_as_before() -> None:
    Chat = session_model()
    Said = message_model((MessageFields,), Chat, type("Meta", (), {"database": DATABASE}))
    assert agent_message(Said) is Said
    assert isinstance(Said._meta.primary_key, pw.AutoField)
