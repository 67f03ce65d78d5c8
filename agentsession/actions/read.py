"""Read the conversation of a session."""

from __future__ import annotations

from typing import Any

import msgspec
import peewee

from agentsession._drive.async_bridge import run_on_store
from agentsession._store.connection import refuse_async
from agentsession._store.declared import Declared
from agentsession._store.identity import primary_key_of
from agentsession._store.layout import Selection
from agentsession._store.session_store import StoredSession, open_session
from agentsession._turn.effects import Loaded
from agentsession.actions.late_checks import refuse_altered
from agentsession.context import Context
from agentsession.errors import InputInvalid

LARGEST = 2**31
"""More messages than a conversation has."""


def get_context(
    model: type[peewee.Model],
    session: Any,
    *,
    last: int | None = None,
    before: int | None = None,
    actor: Any = None,
) -> Context:
    """Return the conversation of a session, read anew from its row.

    Nothing is changed. With `last` the context is a page: `context.first` is the position of its first
    message, `context.count` the number of all messages. From a model with `messages="rows"` only the page is
    read. A row without a turn gives an empty context.

    While a streamed turn runs, `context.turn.partial` is its partial reply. A turn whose process died is
    `interrupted` once its lease is over by the database's clock, and `context.turn.is_abandoned` is true.

    Allowed inside a transaction.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        last: The number of messages of a page, from 1. None reads all.
        before: A position, counted from 0. The page ends with the message before it.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.

    Returns:
        The conversation.

    Raises:
        SessionNotFound: No session has this id, or it belongs to another `actor`.
        InputInvalid: `last` or `before` is not such a number.
        LayoutMismatch: The session is stored in the other layout than the model declares.
        ContextUnreadable: This version cannot read the stored value.

    Example:
        ```python
        from agentsession.actions import get_context

        page = get_context(ChatAgent, session.id, last=50)
        while page.first > 0:
            page = get_context(ChatAgent, session.id, last=50, before=page.first)
        ```
    """
    opened = _opened(model, session, last, before, actor)
    refuse_async(opened.declared, "get_context")
    return _as_read(opened.load())


async def aget_context(
    model: type[peewee.Model],
    session: Any,
    *,
    last: int | None = None,
    before: int | None = None,
    actor: Any = None,
) -> Context:
    """Return the conversation of a session, on an event loop.

    As `get_context`.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        last: The number of messages of a page, from 1. None reads all.
        before: A position, counted from 0. The page ends with the message before it.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.

    Returns:
        The conversation.

    Raises:
        AgentSessionError: As `get_context`.

    Example:
        ```python
        from agentsession.actions import aget_context

        context = await aget_context(ChatAgent, session.id)
        print(len(context.messages))
        ```
    """
    opened = _opened(model, session, last, before, actor)
    return _as_read(await run_on_store(opened, opened.load))


def _as_read(loaded: Loaded) -> Context:
    """Return the context; its turn has the status that holds at the time of the database's clock."""
    context = loaded.context
    turn = None if context.turn is None else context.turn.as_of(loaded.now)
    return msgspec.structs.replace(context, turn=turn)


def _opened(
    model: type[peewee.Model], session: Any, last: int | None, before: int | None, actor: Any
) -> StoredSession:
    declared = Declared.of(model)
    refuse_altered(declared)
    for name, number, least in (("last", last, 1), ("before", before, 0)):
        is_whole = isinstance(number, int) and not isinstance(number, bool)
        if number is not None and not (is_whole and least <= number < LARGEST):
            raise InputInvalid(
                f"{name} is {number!r}, not a whole number from {least}",
                where=f"{declared.name} get_context",
                why="a page is a number of messages before a position",
                fix="get_context(id, last=50), then get_context(id, last=50, before=page.first)",
            )
    key = primary_key_of(model, session)
    return open_session(declared, key, actor, Selection(last=last, before=before, only_to_read=True))
