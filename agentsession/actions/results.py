"""The latest turn and its result, as a record carries them."""

from __future__ import annotations

from typing import Any

import peewee

from agentsession import _clock, info
from agentsession._options import ROWS
from agentsession._store import format
from agentsession._store.declared import Declared
from agentsession._store.layout import NO_MESSAGES
from agentsession._store.record import CLAIM, is_running_here
from agentsession._store.session_store import StoredSession
from agentsession._turn.effects import Outcome
from agentsession._turn.prompt_messages import latest_reply
from agentsession._turn.stored_outcome import result_of
from agentsession._turn_state import AWAITING, Turn
from agentsession.context import Context, Message, Result
from agentsession.errors import NoResult

OUTCOME = "_agentsession_outcome"

READ_FIRST = "read `last_turn.status` first, or run a turn with start_session or continue_session"
DECIDE_FIRST = "decide about each of `approvals`, then call resume_session"


def remember(record: Any, turn: Turn, result: Result[Any] | None) -> None:
    """Note on the record which turn the action ran, at its end."""
    record.__dict__[OUTCOME] = Outcome(turn, result)
    record.__dict__.pop(CLAIM, None)


def last_turn(record: peewee.Model) -> Turn:
    """The turn that the action ran which returned this record; on a record that was selected, its latest
    turn. A turn whose process died is `interrupted` once its lease is over by the host's clock. Costs no
    query: the lease of a living turn is extended in the row, so select the record anew to see how it goes on,
    or use `get_context`. Raises `NoResult` where there is none."""
    outcome = record.__dict__.get(OUTCOME)
    turn = outcome.turn if outcome is not None else context_of(record).turn
    if turn is None:
        raise _none(record, "the session has no turn yet")
    return turn if is_running_here(record, turn) else turn.as_of(_clock.seconds())


def last_result(record: peewee.Model) -> Result[Any]:
    """The result of the turn that the action ran which returned this record; on a record that was selected,
    of its latest completed turn. Costs no query. Raises `NoResult` where there is none."""
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
    """The context in the record's own attribute; read once if the record was selected without it."""
    model, options = type(record), info.session_options(type(record))
    if options.context_attribute not in record.__data__:
        session = StoredSession(Declared.of(model), record._pk, selection=NO_MESSAGES)
        session.load()
        record.__data__[options.context_attribute] = session.map or None
    where = f"{info.qualified_name(model)} {record._pk} {options.context_attribute}"
    map_ = format.as_map(record.__data__[options.context_attribute], where)
    return format.convert({"messages": [], **map_}, Context, where)


def latest_result(record: Any) -> Result[Any] | None:
    """The result of the latest completed turn."""
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
