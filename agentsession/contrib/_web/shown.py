"""What clients are shown: sessions, turns and results as JSON, without claims, hashes and instructions."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import msgspec
import peewee

from agentsession import _clock, actions
from agentsession._json_values import Json, JsonMap
from agentsession._store.column_values import comparable_value
from agentsession._turn.tool_messages import OPAQUE
from agentsession._turn_state import AWAITING, Turn
from agentsession.actions.approvals import Approval
from agentsession.actions.listing import ListedSession, SessionPage
from agentsession.context import Context, Message
from agentsession.contrib._web.problems import json_id, said_of
from agentsession.events import TurnFinished


def session_json(model: type[peewee.Model], session: str, context: Context) -> JsonMap:
    """A session that was found by this text."""
    turn, key = context.turn, comparable_value(model._meta.primary_key, session)
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
        "until": turn.until,
        "partial": turn.partial,
        "usage": msgspec.to_builtins(turn.usage),
        "approvals": [
            _approval(asked.call, asked.tool, asked.parsed_arguments)
            for asked in turn.pending_approvals(_clock.seconds())
        ],
    }


def message_json(message: Message) -> JsonMap:
    shown: JsonMap = {
        "id": message.id,
        "turn": message.turn,
        "role": message.role,
        "text": message.text,
        "content": _content(message),
    }
    if message.thinking:
        shown["thinking"] = message.thinking
    told = (name for name in ("status", "outcome") if name in message.metadata)
    return shown | {name: message.metadata[name] for name in told}


def turn_reply(record: Any) -> JsonMap:
    """What an action that ran no model answers."""
    return {"id": json_id(record._pk), "turn": turn_json(actions.last_turn(record))}


def decided_reply(model: type[peewee.Model], session: str, context: Context) -> JsonMap:
    """The same of a session that was found by this text."""
    shown = session_json(model, session, context)
    return {name: shown[name] for name in ("id", "turn")}


def result_reply(record: Any, status: int = 200) -> tuple[JsonMap, int]:
    """What an action that ran a turn answers, and its status: 202 where the turn waits for an approval. The
    result is that of the event `turn_finished`."""
    reply = turn_reply(record)
    if actions.last_turn(record).status == AWAITING:
        return {**reply, "result": None}, 202
    finished = TurnFinished("", record, actions.last_result(record))
    return {**reply, "result": finished.json()["result"]}, status


def approvals_json(approvals: list[Approval]) -> JsonMap:
    return {"approvals": [_approval(each.call, each.tool, each.arguments) for each in approvals]}


def page_json(page: SessionPage) -> JsonMap:
    return {"sessions": [_listed(each) for each in page.sessions], "next": page.next}


def _approval(call: str, tool: str, arguments: JsonMap) -> JsonMap:
    return {"call": call, "tool": tool, "arguments": arguments}


def _content(message: Message) -> Json:
    """The content, without what only a provider can read."""
    if not isinstance(message.content, list):
        return message.content
    return [part for part in message.content if part.get("type") != OPAQUE]


def _listed(session: ListedSession) -> JsonMap:
    updated = session.updated and session.updated.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    return {"id": json_id(session.id), "status": session.status, "updated": updated}
