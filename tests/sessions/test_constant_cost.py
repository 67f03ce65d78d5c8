"""I9: in rows a turn does and writes as much at the end of a long conversation as at its beginning."""

from __future__ import annotations

from typing import Any

import pytest

from agentsession import testing
from agentsession.provider import Reply
from tests.benchmarks.counting import bytes_per_turn, statements_per_turn
from tests.support import servers
from tests.support.models import chat_model

pytestmark = pytest.mark.matrix


class Says:
    def ask(self, request: Any) -> Reply:
        return Reply("a reply of some length, the same in each turn")


@pytest.fixture
def Chat(database: Any) -> Any:
    """PostgreSQL tells what it wrote of what has reached the disk."""
    options = database.connect_params.get("options")
    if options:
        database.connect_params["options"] = options.replace("-c synchronous_commit=off", "")
    return chat_model(database, provider=Says())


def counted(count: Any, Chat: Any, after: int) -> int:
    try:
        number: int = count(Chat, after=after)
    except RuntimeError as error:  # PostgreSQL tells what it writes to superusers only
        if servers.REQUIRED:
            raise
        pytest.skip(str(error))
    return number


@pytest.mark.layouts("rows")
@pytest.mark.backends("sqlite", "postgres")
def test_a_turn_writes_the_same_bytes_at_the_end_of_a_long_conversation(Chat: Any) -> None:
    late, early = (counted(bytes_per_turn, Chat, after) for after in (1000, 10))
    assert 0 < late <= 1.2 * early


@pytest.mark.backends("sqlite", "postgres")
def test_a_turn_takes_the_same_statements_at_the_end_of_a_long_conversation(Chat: Any, database: Any) -> None:
    expected = 6 if database.layout == "rows" else 3
    assert [counted(statements_per_turn, Chat, after) for after in (2, 1000)] == [expected, expected]


@pytest.mark.layouts("rows")
@pytest.mark.backends("mariadb")
def test_a_turn_writes_the_same_bytes_on_mariadb(Chat: Any, database: Any) -> None:
    session = Chat.start_session("Hello")
    found = []
    for _ in range(2):
        with testing.script(Chat, ["ok"] * 30):
            for _ in range(30):
                session.continue_session("More")
        database.statements.clear()
        session.continue_session("The last")
        found.append([sql.split()[0] for sql in database.statements])
    assert found == [["SELECT", "SELECT", "UPDATE", "INSERT", "UPDATE", "INSERT"]] * 2
