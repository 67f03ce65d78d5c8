"""A WSGI application that asks a model when it is imported, as a check of its configuration would."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import peewee as pw

from agentsession import SessionActions, agent, agent_session

database = pw.SqliteDatabase(os.environ["DATABASE"], pragmas={"journal_mode": "wal", "busy_timeout": 60_000})
client = ("openai:gpt-4o", {"api_base": os.environ["MODEL_URL"] + "/v1", "api_key": "key-123456"})


@agent_session
@agent(client=client, instruction="Be terse.", retries=0, timeout=20)
class Chat(SessionActions, pw.Model):
    context = pw.JSONField(null=True)

    class Meta:
        database = database


with database.connection_context():
    database.create_tables([Chat])
Chat.start_session("question of the master")


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    question = environ["PATH_INFO"].removeprefix("/")
    try:
        chat = Chat.get_by_id(Chat.start_session(question).id)
        text = str(chat.get_context().messages[-1].text)
    except Exception as error:
        text = type(error).__name__
    finally:
        database.close()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
