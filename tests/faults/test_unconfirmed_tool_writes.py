"""I4: an unconfirmed write in a turn with tools changes nothing.

No call runs twice, and no step and no result is stored twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import peewee as pw
import pytest

from agentsession import testing
from tests.spec.test_tool_steps import reply_to, tools_of
from tests.support.lossy_databases import (
    Fault,
    arrives_late,
    is_not_stored,
    is_repeated_by_the_driver,
    is_stored,
    losing,
)
from tests.support.models import chat_model

pytestmark = pytest.mark.matrix

WRITES = 12
LOSSES: list[tuple[Any, int | None]] = [(is_stored, None), (is_not_stored, None), (arrives_late, None)]
LOSSES_IN = {
    "document": [*LOSSES, (is_repeated_by_the_driver, None)],
    "rows": [*LOSSES, (is_not_stored, 1)],
}


def test_an_unconfirmed_write_in_a_turn_with_tools_changes_nothing(database: Any) -> None:
    runs: Counter[str] = Counter()
    Chat = chat_model(losing(database), tools=tools_of(runs, sequential=True))
    counted = Fault(0, is_stored)
    usual = outcome_under(Chat, counted, runs)
    assert len(counted.writes) == WRITES
    differences = {}
    every = 1 if isinstance(database, pw.SqliteDatabase) else 3  # the statements are the same as on SQLite
    for number in range(1, WRITES + 1, every):
        for loss, within in LOSSES_IN[database.layout]:
            seen = outcome_under(Chat, Fault(number, loss, pw.OperationalError, within), runs)
            differences[number, loss.__name__, within] = [item for item in seen if item not in usual]
    assert {case: items for case, items in differences.items() if items} == {}


def outcome_under(Chat: Any, fault: Fault, runs: Counter[str]) -> list[Any]:
    """Return what is stored at the end, and how often each call has run."""
    runs.clear()
    with testing.script(Chat, reply_to):
        session = Chat.start_session("Pay it", run=False)
        Chat._meta.database.fault = fault
        try:
            (approval,) = Chat.resume_session(session.id).approvals
            approval.approve(by="ann")
            Chat.resume_session(session.id)
        finally:
            Chat._meta.database.fault = None
    assert len(fault.writes) >= fault.at, "the fault was not met"
    context = Chat.get_context(session.id)
    seen: list[Any] = [
        (position, message.role, message.text, message.metadata.get("outcome"))
        for position, message in enumerate(context.messages)
    ]
    seen += [(key.partition(":")[2], count) for key, count in runs.items()]
    return [*seen, context.turn.status, len(context.messages)]
