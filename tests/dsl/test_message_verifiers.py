"""What `@agent_message` demands of a model: each problem with its fix, all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from types import new_class
from typing import Any

import peewee as pw
import pytest

from agentsession import DslError, MessageFields, agent, agent_message, agent_session, info, testing

DATABASE = pw.SqliteDatabase(":memory:")
OTHER = pw.SqliteDatabase(":memory:")
INDEXES = ((("session", "seq"), True), (("session", "turn"), False))
OWN = {
    "seq": pw.IntegerField,
    "turn": pw.CharField,
    "role": lambda: pw.CharField(max_length=20),
    "content": pw.JSONField,
    "metadata": pw.JSONField,
}


def chat(messages: str = "rows", **body: Any) -> Any:
    named = {
        "context": pw.JSONField(null=True),
        "slug": pw.CharField(null=True, unique=True),
        "Meta": type("Meta", (), {"database": DATABASE}),
        **body,
    }
    model = new_class("Chat", (pw.Model,), exec_body=lambda namespace: namespace.update(named))
    return agent_session(messages=messages)(agent(client="echo:", instruction="x")(model))  # type: ignore[call-overload]


def message(
    session: Any = None, *, key: Any = None, meta: Any = None, bases: Any = (pw.Model,), **body: Any
) -> Any:
    """A good model of messages, but for what is given; None leaves a field out."""
    made = {name: field() for name, field in OWN.items()} if bases == (pw.Model,) else {}
    key = key or pw.ForeignKeyField(session or chat(), backref="said")
    options = {"database": DATABASE, "indexes": INDEXES} | (meta or {})
    named = {"__module__": __name__, "__qualname__": "Said", "session": key, **made, **body}
    named["Meta"] = type("Meta", (), {name: value for name, value in options.items() if value != "unset"})
    named = {name: value for name, value in named.items() if value is not None}
    return new_class("Said", bases, exec_body=lambda namespace: namespace.update(named))


class User(pw.Model):
    class Meta:
        database = DATABASE


KEY = 'session = peewee.ForeignKeyField(ChatAgent, backref="messages", on_delete="CASCADE", index=False)'
BAD: list[tuple[str, str, str, Callable[[], Any]]] = [
    ("class", "it stands on a value of type int, not on a class", "class ChatMessage(MessageFields): …",
     lambda: 5),
    ("class", "dict is not a Peewee model with a table", "class ChatMessage(MessageFields): …", lambda: dict),
    ("session", "the model has no foreign key to a session model", KEY,
     lambda: message(session=User)),
    ("session", "Chat is declared with messages='document'", '@agent_session(messages="rows", …)',
     lambda: message(chat("document"))),
    ("session", "'session' refers to Chat.slug", "leave field=… out of session",
     lambda: by_slug()),
    ("seq", "the model has no field 'seq'", "seq = peewee.IntegerField()",
     lambda: message(seq=None, meta={"indexes": ()})),
    ("seq", "'seq' is a CharField, not an integer field", "seq = peewee.IntegerField()",
     lambda: message(seq=pw.CharField())),
    ("seq", "'seq' is a SmallIntegerField, not an integer field", "seq = peewee.IntegerField()",
     lambda: message(seq=pw.SmallIntegerField())),
    ("turn", "'turn' is unique, but messages share its values", "turn = peewee.CharField(max_length=255)",
     lambda: message(turn=pw.CharField(unique=True))),
    ("session", "'session' is unique: a session could have only one message", KEY,
     lambda: message(key=pw.ForeignKeyField(chat(), unique=True, backref="said"))),
    ("id", "'id' has neither a default nor null=True", "id = …(default=uuid.uuid4)",
     lambda: message(id=pw.UUIDField(primary_key=True))),
    ("class", "Chat already has its messages in Said", "keep one @agent_message for each session model",
     lambda: a_second_one()),
    ("turn", "'turn' holds 20 characters, not 255", "turn = peewee.CharField(max_length=255)",
     lambda: message(turn=pw.CharField(max_length=20))),
    ("role", "'role' is a IntegerField, not a text field", "role = peewee.CharField(max_length=20)",
     lambda: message(role=pw.IntegerField())),
    ("content", "'content' is a TextField, not a JSON field", "content = peewee.JSONField()",
     lambda: message(content=pw.TextField())),
    ("metadata", "the model has no field 'metadata'", "metadata = peewee.JSONField()",
     lambda: message(metadata=None)),
    ("Meta.indexes", "the model has no unique index on 'session' and 'seq'",
     "indexes = ((('session', 'seq'), True), (('session', 'turn'), False)) in class Meta",
     lambda: message(meta={"indexes": ((("session", "seq"), False),)})),
    ("Meta.indexes", "an index names 'session', which is not a field",
     "call the foreign key 'session', or indexes = ((('chat', 'seq'), True), (('chat', 'turn'), False)) in "
     "class Meta", lambda: named_otherwise()),
    ("rating", "'rating' has neither a default nor null=True", "rating = …(null=True)",
     lambda: message(rating=pw.IntegerField())),
    ("Meta.database", "its database is not that of the session",
     "database = Chat._meta.database in class Meta, or in a base of both models",
     lambda: message(meta={"database": OTHER})),
    ("Meta.database", "the model has no database",
     "database = Chat._meta.database in class Meta, or in a base of both models",
     lambda: message(meta={"database": None})),
]  # fmt: skip


def a_second_one() -> Any:
    session = chat()
    GONE.append(agent_message(message(session)))
    return message(key=pw.ForeignKeyField(session, backref="more"), meta={"table_name": "other"})


GONE: list[Any] = []


def by_slug() -> Any:
    return message(key=pw.ForeignKeyField(chat(), field="slug", backref="said"))


def named_otherwise() -> Any:
    session = chat()

    class Said(MessageFields):
        chat = pw.ForeignKeyField(session, backref="said")

        class Meta:
            database = DATABASE
            indexes = ((("chat", "seq"), True), (("session", "turn"), False))

    return Said


@pytest.mark.parametrize(("where", "found", "fix", "model"), BAD, ids=[f"{b[0]}: {b[1][:30]}" for b in BAD])
def test_a_bad_model_is_one_problem(where: str, found: str, fix: str, model: Callable[[], Any]) -> None:
    with testing.dsl_errors() as problems:
        agent_message(model())
    assert [(each.where.split("-> ")[1], each.found, each.fix) for each in problems] == [(where, found, fix)]
    assert all(each.why for each in problems)


def test_all_problems_are_reported_together_and_nothing_is_registered() -> None:
    session = chat()

    class Said(pw.Model):
        session_id = pw.IntegerField()
        text = pw.TextField()

        class Meta:
            database = DATABASE

    with testing.dsl_errors() as problems:
        agent_message(Said, order=1)  # type: ignore[call-overload]
    assert [each.where.split("-> ")[1] for each in problems] == [
        "order", "session", "seq", "turn", "role", "content", "metadata",
    ]  # fmt: skip
    assert info.message_model(session) is None


@pytest.mark.parametrize(
    "make",
    [
        message,
        lambda: message(bases=(MessageFields,), meta={"indexes": "unset"}),
        lambda: message(turn=pw.TextField(), note=pw.TextField(default="")),
        lambda: message(parent=pw.ForeignKeyField("self", null=True), id=pw.UUIDField(primary_key=True,
                                                                                      default=lambda: 1)),
        lambda: message(forwarded=pw.ForeignKeyField(chat(), null=True, backref="forwarded")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("decorate", [agent_message, lambda model: agent_message()(model)])
def test_a_good_model_passes(make: Callable[[], Any], decorate: Any) -> None:
    model = make()
    assert decorate(model) is model
    assert info.message_model(model.session.rel_model) is model


def test_an_index_that_was_added_counts() -> None:
    model = message(meta={"indexes": ()})
    model.add_index(model.session, model.seq, unique=True)
    assert agent_message(model) is model


def test_without_one_the_first_action_says_what_is_missing() -> None:
    Chat = chat()
    with pytest.raises(DslError, match='messages="rows", and no model with @agent_message refers to it'):
        Chat.start_session("Hello")
    message_of = message(Chat)
    agent_message(message_of)
    with DATABASE.connection_context():
        DATABASE.create_tables([Chat, message_of])
        assert Chat.start_session("Hello").get_context().count == 2


def test_messages_that_are_declared_again_over_their_table_take_its_place() -> None:
    Chat = chat()
    first = agent_message(message(Chat))
    second = agent_message(message(Chat))
    assert info.message_model(Chat) is second is not first
