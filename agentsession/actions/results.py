"""The latest turn of a record, and its result."""

from __future__ import annotations

from typing import Any

import peewee

from agentsession import _clock, info
from agentsession._options import ROWS
from agentsession._store import format
from agentsession._store.declared import Declared
from agentsession._store.layout import NO_MESSAGES
from agentsession._store.record import is_running_here
from agentsession._store.session_store import StoredSession
from agentsession._turn.finish import result_of
from agentsession._turn.prompt_messages import latest_reply
from agentsession._turn_state import AWAITING, Turn
from agentsession.actions.action import OUTCOME
from agentsession.context import Context, Message, Result
from agentsession.errors import NoResult

READ_FIRST = "read `last_turn.status` first, or run a turn with start_session or continue_session"
DECIDE_FIRST = "decide about each of `approvals`, then call resume_session"


def last_turn(record: peewee.Model) -> Turn:
    """Return the turn that the action ran which returned a record.

    Of a record that was selected: its latest turn, as it was read. A running turn becomes `interrupted` once
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
    """Return the result of the turn that the action ran which returned a record.

    Of a record that was selected: the result of its latest completed turn. Runs no query.

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


def _none(record: peewee.Model, found: str, fix: str = READ_FIRST) -> NoResult:
    return NoResult(
        found,
        where=info.qualified_name(type(record)),
        why="an absent result is an error, never a silent None",
        fix=fix,
    )
