"""Models for the tests: a session model on a database of the test's own."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import uuid4

import peewee as pw
from pydantic import BaseModel

from agentsession import SessionActions, agent, agent_session
from tests.support.layouts import layout_of, messages_in_rows, with_messages
from tests.support.servers import open_database

__all__ = [
    "About",
    "Answer",
    "Ask",
    "chat_model",
    "kept",
    "let_the_lease_run_out",
    "open_database",
    "put_raw",
    "raw_text",
    "roles",
    "stored",
    "texts",
]


class About(BaseModel):
    company_name: str


class Ask(BaseModel):
    message: str


class Answer(BaseModel):
    content: str


def chat_model(database: Any, *, create: bool = True, session: Any = None, **options: Any) -> Any:
    """A session model with a status, an updated time and columns of the user's own."""
    connection = database
    declared = {"client": "echo:", "instruction": "You help."} | options
    stores = {"status_attribute": "status", "updated_attribute": "updated"} | layout_of(database)

    @agent_session(**(stores | (session or {})))
    @agent(**declared)
    class Chat(SessionActions, pw.Model):
        id = pw.UUIDField(primary_key=True, default=uuid4)
        context = pw.JSONField(null=True)
        status = pw.CharField(default="pending")
        updated = pw.DateTimeField(null=True)
        title = pw.CharField(default="untitled")
        created = pw.DateTimeField(default=datetime.datetime.now)

        class Meta:
            table_name = "chat"
            database = connection

    return with_messages(Chat, create=create)


def roles(model: Any, session: Any) -> list[str]:
    return [message.role for message in model.get_context(session).messages]


def texts(model: Any, session: Any) -> list[str]:
    return [message.text for message in model.get_context(session).messages]


def stored(record: Any) -> dict[str, Any]:
    """The map as it is in the table, with its messages if they are rows of their own."""
    found, model = kept(record), type(record)
    return found | {"messages": messages_in_rows(model, record._pk)} if found["layout"] == "rows" else found


def kept(record: Any) -> dict[str, Any]:
    """The context attribute as it is in the table."""
    found: dict[str, Any] = type(record).get_by_id(record._pk).context
    return found


def raw_text(model: Any) -> str | None:
    """The context of the only row, as the database writes it."""
    kind = "char" if isinstance(model._meta.database, pw.MySQLDatabase) else "text"
    (text,) = model._meta.database.execute_sql(f"select cast(context as {kind}) from chat").fetchone()
    return text  # type: ignore[no-any-return]


def put_raw(model: Any, text: str | None) -> None:
    """Give every row this JSON text as its context."""
    database = model._meta.database
    database.execute_sql(f"update chat set context = {database.param}", (text,))


def let_the_lease_run_out(model: Any, key: Any) -> None:
    """As if time had passed."""
    with model._meta.database.connection_context():
        context = model.get_by_id(key).context
        context["turn"]["until"] = 1.0
        assert model.update(context=context).where(model.id == key).execute() == 1
