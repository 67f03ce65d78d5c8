"""A tool that leaves a transaction open: its writes are rolled back, its connection is given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import peewee as pw
import pytest

from agentsession import testing
from agentsession.testing import tool_call
from tests.support import servers
from tests.support.async_databases import run
from tests.support.models import texts
from tests.support.tool_sessions import WAYS, Way, plain, results, said, tooled

pytestmark = pytest.mark.matrix

POOL = 2
LEFT_OPEN = "OperationalError: a transaction was left open; it is rolled back"


def by_hand(database: Any) -> None:
    database.connect(reuse_if_open=True)
    database.execute_sql("begin")


def manual(database: Any) -> None:
    database.connect(reuse_if_open=True)
    database.manual_commit().__enter__()
    database.begin()


def nested(database: Any) -> None:
    database.atomic().__enter__()
    database.atomic().__enter__()
    database.transaction().__enter__()


BEGINS: dict[str, Callable[[Any], Any]] = {
    "atomic": lambda database: database.atomic().__enter__(),
    "nested": nested,
    "manual": manual,
    "by hand": by_hand,
}


@pytest.fixture
def pool(database_url: str) -> Iterator[Any]:
    opened = servers.open_database(database_url, pool=POOL)
    yield opened
    opened.close_all()


def orders_of(database: Any) -> Any:
    connection = database

    class Order(pw.Model):
        number = pw.IntegerField()

        class Meta:
            table_name = "orders"
            database = connection

    return Order


def ordering(database: Any, begin: Callable[[Any], Any], then: Callable[[], Any] = str) -> tuple[Any, Any]:
    """A model whose tool stores an order in a transaction that it leaves open, and the orders."""
    Order = orders_of(database)

    def order() -> str:
        """Order."""
        begin(database)
        Order.create(number=1)
        then()
        return "ordered"

    Chat = tooled(database, order)
    with database.connection_context():
        database.create_tables([Order])
    return Chat, Order


@pytest.mark.parametrize("begin", BEGINS)
@pytest.mark.parametrize("way", WAYS)
def test_a_transaction_that_a_tool_leaves_open_is_rolled_back_and_told(
    way: Way, begin: str, pool: Any
) -> None:
    Chat, Order = ordering(pool, BEGINS[begin])
    for _ in range(POOL + 1):
        record, _, _ = said(way, Chat, [tool_call("order"), "sorry"])
        assert results(Chat, record.id) == [("failed", LEFT_OPEN)]
        assert texts(Chat, record)[-1] == "sorry"
        assert not pool._in_use
    with pool.connection_context():
        assert Order.select().count() == 0
        assert Chat.select().count() == POOL + 1


def test_the_error_of_a_tool_is_told_rather_than_its_open_transaction(pool: Any) -> None:
    def fail() -> None:
        raise ValueError("no stock")

    Chat, Order = ordering(pool, BEGINS["atomic"], fail)
    record, _, _ = said(plain, Chat, [tool_call("order"), "sorry"])
    assert results(Chat, record.id) == [("failed", "ValueError: no stock")]
    assert not pool._in_use
    with pool.connection_context():
        assert Order.select().count() == 0


@pytest.mark.parametrize("begin", BEGINS)
@pytest.mark.parametrize("way", WAYS)
def test_in_memory_as_well(way: Way, begin: str) -> None:
    database = pw.SqliteDatabase(":memory:")
    with database.connection_context():
        Chat, Order = ordering(database, BEGINS[begin])
        record, _, _ = said(way, Chat, [tool_call("order"), "sorry"])
        assert results(Chat, record.id) == [("failed", LEFT_OPEN)]
        assert texts(Chat, record)[-1] == "sorry"
        assert Order.select().count() == 0
        assert not database.in_transaction()
        record, _, _ = said(way, Chat, ["yes"], "continue_session", record.id, "Again")
        assert record.status == "completed"


@pytest.mark.backends("sqlite")
def test_the_callers_own_transaction_stays_open(database: Any) -> None:
    Chat, Order = ordering(database, lambda _: None)
    with database.connection_context(), database.atomic(), testing.inside_transaction():
        record, _, _ = said(plain, Chat, [tool_call("order"), "done"])
        assert results(Chat, record.id) == [("completed", "ordered")]
    assert Order.select().count() == 1


def test_an_asynchronous_tool_on_an_asynchronous_database(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        Order = orders_of(db)

        async def order() -> str:
            """Order."""
            await db.atomic().__aenter__()
            await db.run(Order.create, number=1)
            return "ordered"

        Chat = await db.run(tooled, db, order)
        await db.acreate_tables([Order])
        for _ in range(POOL + 1):
            with testing.script(Chat, [tool_call("order"), "sorry"]):
                session = await Chat.astart_session("Hello")
            stored = (await Chat.aget_context(session.id)).messages
            assert [each.text for each in stored if each.role == "tool"] == [LEFT_OPEN]
        assert await db.count(Order.select()) == 0

    run(database_url, scenario, pool_size=POOL)
