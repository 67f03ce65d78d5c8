"""Read a session: its conversation from the row, its latest turn and result from the record."""

from __future__ import annotations

from typing import Any

import msgspec
import peewee

from agentsession import _clock, info
from agentsession._options import ROWS
from agentsession._store import format
from agentsession._store.declared import Declared, refuse_async, run_on_store
from agentsession._store.identity import primary_key_of
from agentsession._store.layout import NO_MESSAGES, Selection
from agentsession._store.record import is_running_here
from agentsession._store.session_store import StoredSession, open_session
from agentsession._turn.effects import Loaded
from agentsession._turn.finish import result_of
from agentsession._turn.prompt_messages import latest_reply
from agentsession._turn_state import AWAITING, Turn
from agentsession.actions.action import OUTCOME
from agentsession.actions.prepare import checked_model
from agentsession.context import Context, Message, Result
from agentsession.errors import InputInvalid, NoResult

LARGEST = 2**31
"""More messages than a conversation has."""

READ_FIRST = "read `last_turn.status` first, or run a turn with start_session or continue_session"
DECIDE_FIRST = "decide about each of `approvals`, then call resume_session"


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


def last_turn(record: peewee.Model) -> Turn:
    """Return the turn of the action that returned a record.

    For a record that was selected: its latest turn, as it was read. A running turn becomes `interrupted` once
    the lease that was read is over by the host's clock; select the record anew, or call `get_context`, to
    follow a turn whose lease is extended. Runs no query.

    Args:
        record: A session.

    Returns:
        The turn.

    Raises:
        NoResult: The session has no turn.

    Example:
        ```python
        from agentsession.actions import last_turn

        print(last_turn(session).status)
        ```
    """
    outcome = record.__dict__.get(OUTCOME)
    turn = outcome.turn if outcome is not None else context_of(record).turn
    if turn is None:
        raise _none(record, "the session has no turn yet")
    return turn if is_running_here(record, turn) else turn.as_of(_clock.seconds())


def last_result(record: peewee.Model) -> Result[Any]:
    """Return the result of the action that returned a record.

    For a record that was selected: the result of its latest completed turn. Runs no query.

    Args:
        record: A session.

    Returns:
        The result.

    Raises:
        NoResult: That turn did not complete, or no turn has completed.

    Example:
        ```python
        from agentsession.actions import last_result

        print(last_result(session).text)
        ```
    """
    outcome, fix = record.__dict__.get(OUTCOME), READ_FIRST
    if outcome is None:
        result = latest_result(record)
        found = "the session has no completed turn yet"
    else:
        result = outcome.result
        found = f"the turn of this call is {outcome.turn.status}, not completed"
        fix = DECIDE_FIRST if outcome.turn.status == AWAITING else READ_FIRST
    if result is None:
        raise _none(record, found, fix)
    return result


def context_of(record: Any) -> Context:
    """Return the context in the record's attribute. Read it once if the record was selected without it."""
    model, options = type(record), info.session_options(type(record))
    if options.context_attribute not in record.__data__:
        session = StoredSession(Declared.of(model), record._pk, selection=NO_MESSAGES)
        session.load()
        record.__data__[options.context_attribute] = session.map or None
    where = f"{info.qualified_name(model)} {record._pk} {options.context_attribute}"
    map_ = format.as_map(record.__data__[options.context_attribute], where)
    return format.convert({"messages": [], **map_}, Context, where)


def latest_result(record: Any) -> Result[Any] | None:
    """Return the result of the latest completed turn, or None."""
    context = context_of(record)
    map_ = record.__data__[info.session_options(type(record)).context_attribute] or {}
    if context.layout == ROWS:
        where = f"{info.qualified_name(type(record))} {record._pk} reply"
        message = format.convert(map_["reply"], Message, where) if "reply" in map_ else None
    else:
        message = latest_reply(context)
    return None if message is None else result_of(message, info.agent_options(type(record)).output)


def _as_read(loaded: Loaded) -> Context:
    """Return the context; its turn has the status that holds at the time of the database's clock."""
    context = loaded.context
    turn = None if context.turn is None else context.turn.as_of(loaded.now)
    return msgspec.structs.replace(context, turn=turn)


def _opened(
    model: type[peewee.Model], session: Any, last: int | None, before: int | None, actor: Any
) -> StoredSession:
    declared = checked_model(model)
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


def _none(record: peewee.Model, found: str, fix: str = READ_FIRST) -> NoResult:
    return NoResult(
        found,
        where=info.qualified_name(type(record)),
        why="an absent result is an error, never a silent None",
        fix=fix,
    )
