"""Models whose actions are repeated by a key, and who says something with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import peewee as pw

from agentsession import SessionActions, agent, agent_session
from tests.support.layouts import all_rows, layout_of, with_messages


def keyed_model(
    database: Any, key: Any = None, *, session: Any = None, name: str = "chat", **options: Any
) -> Any:
    """A session model with columns that a start gives values to; `key` is its primary key."""
    connection, primary_key = database, key or pw.UUIDField(primary_key=True, default=uuid4)

    @agent_session(**({"status_attribute": "status"} | layout_of(database) | (session or {})))
    @agent(**({"client": "echo:", "instruction": "You help."} | options))
    class Chat(SessionActions, pw.Model):
        id = primary_key
        context = pw.JSONField(null=True)
        status = pw.CharField(default="pending")
        title = pw.CharField(default="untitled")
        slug = pw.CharField(null=True, unique=True)
        start_key = pw.CharField(max_length=36, null=True, unique=True)
        owner = pw.CharField(default="")

        class Meta:
            table_name = name
            legacy_table_names = False
            database = connection

    return with_messages(Chat)


BY_ATTRIBUTE: Any = {"idempotency_attribute": "start_key"}


@dataclass
class Speaker:
    """Says something with a key: begins a session with it, or continues one."""

    Chat: Any
    session: Any = None

    def __call__(self, words: Any = "Hello", key: Any = "k", **options: Any) -> Any:
        if self.session is None:
            return self.Chat.start_session(words, idempotency_key=key, **options)
        return self.Chat.continue_session(self.session, words, idempotency_key=key, **options)

    def rows(self) -> Any:
        return all_rows(self.Chat)

    def only(self) -> Any:
        (record,) = self.Chat.select()
        return record

    def said(self, words: str = "Hello") -> list[str]:
        """The roles of the messages of the turn that began with these words."""
        messages = self.only().get_context().messages
        turns = [message.turn for message in messages if message.role == "user" and message.text == words]
        return [message.role for message in messages if message.turn in turns]


Speaks = Callable[..., Speaker]
