"""The statements of a turn, by counting them."""

from __future__ import annotations

from typing import Any

import pytest

from agentsession import testing, tool
from tests.support.models import Answer, chat_model

pytestmark = pytest.mark.matrix("full")


def verbs(database: Any) -> list[str]:
    found = [sql.split()[0] for sql in database.statements]
    database.statements.clear()
    return found


COSTS: dict[str, dict[str, list[str]]] = {
    "document": {"start": ["INSERT"], "load": ["SELECT"], "say": ["UPDATE"], "save": ["UPDATE"]},
    "rows": {
        "start": ["INSERT", "INSERT"],
        "load": ["SELECT", "SELECT"],
        "say": ["UPDATE", "INSERT"],
        "save": ["UPDATE"],
    },
}
"""What each effect costs: `save` is a write without a new message. BEGIN and COMMIT are not counted."""


def test_a_turn_takes_these_statements(Chat: Any) -> None:
    database = Chat._meta.database
    start, load, say, save = COSTS[database.layout].values()
    verbs(database)
    session = Chat.start_session("One")
    assert verbs(database) == start + say
    session.continue_session("Two")
    assert verbs(database) == load + say + say
    Chat.continue_session(session.id, "Three")
    assert verbs(database) == load + say + say
    session.continue_session("Four", run=False)
    assert verbs(database) == load + say
    session.resume_session()
    assert verbs(database) == load + save + say
    session.get_context()
    assert verbs(database) == load
    session.get_context(last=1)
    assert verbs(database) == load
    session.last_result.output
    session.last_turn
    assert verbs(database) == []
    Chat.call("One")
    assert verbs(database) == []


def test_a_repeated_output_takes_one_more_statement(database: Any) -> None:
    Chat = chat_model(database, output_schema=Answer)
    start, _, say, save = COSTS[database.layout].values()
    verbs(database)
    with testing.script(Chat, ["no", Answer(content="yes")]):
        Chat.start_session("One")
    metadata = ["UPDATE"] if database.layout == "rows" else []
    assert verbs(database) == start + save + metadata + metadata + say


def test_a_step_with_tools_takes_two_writes(database: Any) -> None:
    """One for the reply with its calls, one for results that come together; a decision is a read and one."""

    @tool(needs_approval=lambda arguments: arguments["number"] < 0)
    def look(number: int) -> str:
        """Look."""
        return "seen"

    Chat = chat_model(database, tools=[look])
    start, load, say, save = COSTS[database.layout].values()
    call = testing.tool_call
    with testing.script(Chat, [call("look", number=1), "yes", call("look", number=-1), "yes"]):
        verbs(database)
        session = Chat.start_session("One")
        assert verbs(database) == start + say + say + say
        session.continue_session("Two")
        assert verbs(database) == load + say + say + save
        session.approvals[0].approve()
        assert verbs(database) == load[:1] + save
        session.resume_session()
        assert verbs(database) == load + save + say + say


def test_each_effect_that_is_performed_extends_the_lease(database: Any) -> None:
    until: list[float] = []

    class Looks:
        def ask(self, request: Any) -> Any:
            from agentsession.provider import Reply

            with database.connection_context():
                (row,) = Chat.select()
            until.append(row.context["turn"]["until"])
            return Reply("no" if len(until) < 3 else '{"content":"yes"}')

    Chat = chat_model(
        database, output_schema=Answer, output_retries=2, provider=Looks(), session={"lease": 9}
    )
    session = Chat.start_session("One")
    assert until[0] < until[1] < until[2]
    assert "until" not in session.context["turn"]
