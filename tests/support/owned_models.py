"""Models whose sessions have owners of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import peewee as pw

from agentsession import SessionActions, agent, agent_session
from tests.support.layouts import flat_rows, layout_of, with_messages


def owned(database: Any, owner: Any, session: Any = None, **options: Any) -> Any:
    """A session model whose sessions have an owner."""
    connection, field = database, owner
    declared = {"status_attribute": "status", "owner_attribute": "owner"}
    declared |= layout_of(database) | (session or {})

    @agent_session(**declared)
    @agent(**({"client": "echo:", "instruction": "You help."} | options))
    class Owned(SessionActions, pw.Model):
        id = pw.UUIDField(primary_key=True, default=uuid4)
        owner = field
        context = pw.JSONField(null=True)
        status = pw.CharField(default="pending")

        class Meta:
            table_name = "owned"
            database = connection

    return with_messages(Owned)


def people(database: Any, key: Any = None, name: str = "person") -> Any:
    """A table of owners."""
    connection, field, table = database, key or pw.AutoField(), name

    class Person(pw.Model):
        id = field

        class Meta:
            table_name = table
            database = connection

    database.create_tables([Person])
    return Person


@dataclass
class Case:
    """A model with an owner, and two actors; `same` are other forms of the first."""

    Chat: Any
    ann: Any
    bob: Any
    same: tuple[Any, ...] = ()


def of_records(database: Any) -> Case:
    Person = people(database)
    ann, bob = Person.create(), Person.create()
    field = pw.ForeignKeyField(Person, backref="+")
    return Case(owned(database, field), ann, bob, (ann.id, str(ann.id)))


def of_text_keys(database: Any) -> Case:
    Person = people(database, pw.CharField(max_length=40, primary_key=True))
    ann, bob = (Person.create(id=name) for name in ("ann", "bob"))
    return Case(owned(database, pw.ForeignKeyField(Person, backref="+")), ann, bob, ("ann",))


def of_profiles(database: Any) -> Case:
    """The owner's own key refers to another table."""
    Person = people(database)
    Profile = people(database, pw.ForeignKeyField(Person, primary_key=True, backref="+"), "profile")
    ann, bob = (Profile.create(id=Person.create()) for _ in range(2))
    return Case(owned(database, pw.ForeignKeyField(Profile, backref="+")), ann, bob, (ann._pk,))


def of_integers(database: Any) -> Case:
    return Case(owned(database, pw.IntegerField()), 7, 8, ("7",))


def of_uuids(database: Any) -> Case:
    ann, bob = UUID(int=10**30), UUID(int=11**30)
    return Case(owned(database, pw.UUIDField()), ann, bob, (str(ann), ann.hex, ann.hex.upper()))


def of_texts(database: Any) -> Case:
    return Case(owned(database, pw.CharField()), "ann", "bob")


class Name(pw.CharField):
    """A field of the user's own that converts nothing."""


def of_names(database: Any) -> Case:
    return Case(owned(database, Name()), "ann", "bob")


KINDS = [of_records, of_text_keys, of_profiles, of_integers, of_uuids, of_texts]


def named(make: Any) -> str:
    return str(make.__name__)


def rows(Chat: Any) -> list[dict[str, Any]]:
    return flat_rows(Chat)


Action = Callable[[Any, Any, Any], Any]


ACTIONS: dict[str, Action] = {
    "continue": lambda Chat, session, actor: Chat.continue_session(session, "More", actor=actor),
    "continue, later": lambda Chat, session, actor: Chat.continue_session(
        session, "More", actor=actor, run=False
    ),
    "continue, keyed": lambda Chat, session, actor: Chat.continue_session(
        session, "More", actor=actor, idempotency_key="k"
    ),
    "continue, on a record": lambda Chat, session, actor: as_record(Chat, session).continue_session(
        "More", actor=actor
    ),
    "resume": lambda Chat, session, actor: Chat.resume_session(session, actor=actor),
    "resume, on a record": lambda Chat, session, actor: as_record(Chat, session).resume_session(actor=actor),
    "context": lambda Chat, session, actor: Chat.get_context(session, actor=actor),
    "context, on a record": lambda Chat, session, actor: as_record(Chat, session).get_context(actor=actor),
}


def as_record(Chat: Any, session: Any) -> Any:
    return session if isinstance(session, Chat) else Chat(id=session)
