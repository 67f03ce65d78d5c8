"""Models for the tests: a session model on a database of the test's own."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import uuid4

import peewee as pw
from pydantic import BaseModel

from agentsession import SessionActions, agent, agent_session


class About(BaseModel):
    company_name: str


class Ask(BaseModel):
    message: str


class Answer(BaseModel):
    content: str


class RecordingDatabase(pw.SqliteDatabase):
    """Keeps each statement that is executed."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self.statements: list[str] = []
        super().__init__(*args, **keywords)

    def execute_sql(self, sql: str, *args: Any, **keywords: Any) -> Any:
        self.statements.append(sql)
        return super().execute_sql(sql, *args, **keywords)


def open_database(path: Any) -> RecordingDatabase:
    return RecordingDatabase(str(path), pragmas={"journal_mode": "wal", "busy_timeout": 5000})


def chat_model(database: Any, *, create: bool = True, session: Any = None, **options: Any) -> Any:
    """A session model with a status, an updated time and columns of the user's own."""
    connection = database
    declared = {"client": "echo:", "instruction": "You help."} | options

    @agent_session(**({"status_attribute": "status", "updated_attribute": "updated"} | (session or {})))
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

    if create:
        with database.connection_context():
            database.create_tables([Chat])
    return Chat


def roles(model: Any, session: Any) -> list[str]:
    return [message.role for message in model.get_context(session).messages]


def texts(model: Any, session: Any) -> list[str]:
    return [message.text for message in model.get_context(session).messages]


def stored(record: Any) -> dict[str, Any]:
    """The map as it is in the table."""
    found: dict[str, Any] = type(record).get_by_id(record._pk).context
    return found


def let_the_lease_run_out(model: Any, key: Any) -> None:
    """As if time had passed."""
    expired = pw.fn.json_set(model.context, "$.turn.until", 1.0)
    with model._meta.database.connection_context():
        assert model.update(context=expired).where(model.id == key).execute() == 1
