"""What clients are shown: sessions, turns and results as JSON, without claims, hashes and instructions."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import msgspec
import peewee

from agentsession import actions
from agentsession.actions.listing import ListedSession, SessionPage
from agentsession.context import Context, Message, Turn
from agentsession.contrib.web.problems import json_id, said_of
from agentsession.events import TurnFinished
from agentsession.json_values import JsonMap
from agentsession.store.values import settled_value


def session_json(model: type[peewee.Model], session: str, context: Context) -> JsonMap:
    """A session that was found by this text."""
    turn, key = context.turn, settled_value(model._meta.primary_key, session)
    return {
        "id": json_id(key),
        "status": None if turn is None else turn.status,
        "turn": None if turn is None else turn_json(turn),
        "messages": [message_json(message) for message in context.messages if message.role != "system"],
    }


def turn_json(turn: Turn) -> JsonMap:
    return {
        "id": turn.id,
        "status": turn.status,
        "error": said_of(turn),
        "partial": turn.partial,
        "usage": msgspec.to_builtins(turn.usage),
    }


def message_json(message: Message) -> JsonMap:
    shown: JsonMap = {
        "id": message.id,
        "turn": message.turn,
        "role": message.role,
        "text": message.text,
        "content": message.content,
    }
    if message.thinking:
        shown["thinking"] = message.thinking
    if "status" in message.metadata:
        shown["status"] = message.metadata["status"]
    return shown


def turn_reply(record: Any) -> JsonMap:
    """What an action that ran no model answers."""
    return {"id": json_id(record._pk), "turn": turn_json(actions.last_turn(record))}


def result_reply(record: Any) -> JsonMap:
    """What an action that ran a turn answers; the result is that of the event `turn_finished`."""
    finished = TurnFinished("", record, actions.last_result(record))
    return {**turn_reply(record), "result": finished.json()["result"]}


def page_json(page: SessionPage) -> JsonMap:
    return {"sessions": [_listed(each) for each in page.sessions], "next": page.next}


def _listed(session: ListedSession) -> JsonMap:
    updated = session.updated and session.updated.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    return {"id": json_id(session.id), "status": session.status, "updated": updated}
