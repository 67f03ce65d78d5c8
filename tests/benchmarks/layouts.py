"""Our session models, one for each layout of the messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import peewee as pw

import agentsession
from agentsession import agent, agent_session
from agentsession.provider import Reply, Request
from tests.benchmarks.texts import Texts


class Answers:
    """A model that takes no time."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    def ask(self, request: Request) -> Reply:
        return Reply(self.texts.fresh())


def chat_model(database: Any, texts: Texts, **layout: Any) -> Any:
    connection = database

    @agent_session(status_attribute="status", **layout)
    @agent(client="x:y", instruction="You help.", provider=Answers(texts))
    class Chat(pw.Model):
        id = pw.UUIDField(primary_key=True, default=uuid4)
        context = pw.JSONField(null=True)
        status = pw.CharField(default="pending")

        class Meta:
            database = connection

    return Chat


def document_model(database: Any, texts: Texts) -> Any:
    Chat = chat_model(database, texts)
    with database.connection_context():
        database.create_tables([Chat])
    return Chat


def rows_model(database: Any, texts: Texts) -> Any:
    package: Any = agentsession
    connection = database
    Chat = chat_model(database, texts, messages="rows")

    @package.agent_message
    class ChatMessage(package.MessageFields):  # type: ignore[misc]
        session = pw.ForeignKeyField(Chat, backref="messages", on_delete="CASCADE", index=False)

        class Meta:
            database = connection

    with database.connection_context():
        database.create_tables([Chat, ChatMessage])
    return Chat


LAYOUTS: dict[str, Callable[[Any, Texts], Any]] = {"document": document_model}
if hasattr(agentsession, "MessageFields"):
    LAYOUTS["rows"] = rows_model
