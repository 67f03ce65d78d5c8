"""Tools of `call` and `stream`, which have no session: where they run, and what identifies their calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import peewee as pw
import pytest

from agentsession import ToolContext, agent, testing
from agentsession.testing import tool_call
from tests.support.tool_sessions import tooled


def call(Chat: Any) -> None:
    Chat.call("Hello!")


def acall(Chat: Any) -> None:
    asyncio.run(Chat.acall("Hello!"))


def stream(Chat: Any) -> None:
    with Chat.stream("Hello!") as events:
        assert [*events][-1].name == "turn_finished"


def astream(Chat: Any) -> None:
    async def follow() -> None:
        async with Chat.astream("Hello!") as events:
            assert [event async for event in events][-1].name == "turn_finished"

    asyncio.run(follow())


WAYS = [call, acall, stream, astream]
Way = Callable[[Any], None]


def answers(way: Way, Chat: Any, *calls: Any) -> list[str]:
    """What the model is told of these calls."""
    with testing.script(Chat, [calls, "ok"]) as asked:
        way(Chat)
    return [message.content for message in asked[1] if message.role == "tool"]


def counting(database: Any, **options: Any) -> tuple[Any, list[threading.Thread]]:
    """A model whose tool counts its rows, and the threads on which it did."""
    threads: list[threading.Thread] = []

    def count() -> int:
        """Count the rows."""
        threads.append(threading.current_thread())
        found: int = Chat.select().count()
        return found

    Chat = tooled(database, count, **options)
    return Chat, threads


@pytest.mark.parametrize("way", WAYS)
def test_in_memory_a_tool_sees_the_data(way: Way) -> None:
    database = pw.SqliteDatabase(":memory:")
    database.connect()
    Chat, threads = counting(database, create=False)
    database.create_tables([Chat])
    Chat.create()
    assert answers(way, Chat, tool_call("count")) == ["1"]
    assert threads == [threading.current_thread()]


@pytest.mark.layouts("document")
@pytest.mark.parametrize("way", WAYS)
def test_inside_a_transaction_a_tool_sees_what_it_has_done(way: Way, database: Any) -> None:
    Chat, threads = counting(database)
    with database.connection_context(), database.atomic():
        Chat.create()
        assert answers(way, Chat, tool_call("count")) == ["1"]
        assert database.in_transaction()
        assert not database.is_closed()
    assert threads == [threading.current_thread()]


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
def test_a_transaction_that_begins_between_two_events_disturbs_no_call(database: Any) -> None:
    Chat, threads = counting(database)
    with testing.script(Chat, [tool_call("count"), "ok"]), Chat.stream("Hello!") as stream:
        for event in stream:
            if event.name == "tool_started":
                break
        with database.connection_context(), database.atomic():
            assert [event.name for event in stream][-1] == "turn_finished"
    assert threads[0] is not threading.current_thread()


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
@pytest.mark.parametrize("way", WAYS)
def test_elsewhere_a_tool_runs_in_a_thread(way: Way, database: Any) -> None:
    Chat, threads = counting(database)
    assert answers(way, Chat, tool_call("count")) == ["0"]
    assert threads[0] is not threading.current_thread()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["none", "proxy", "unsupported"])
def test_a_model_without_a_usable_database_may_be_called(way: Way, kind: str) -> None:
    def where() -> str:
        """Tell the thread."""
        return threading.current_thread().name

    class Base(pw.Model):
        class Meta:
            database = {"proxy": pw.DatabaseProxy(), "unsupported": pw.Database("x")}.get(kind)

    declared = agent(client="echo:", instruction="You help.", tools=[where])
    Chat = declared(type("Chat", (object if kind == "none" else Base,), {}))
    assert answers(way, Chat, tool_call("where")) == ["agentsession-tool"]


@pytest.mark.parametrize("way", WAYS)
def test_each_call_has_a_uuid_of_its_own(way: Way) -> None:
    keys: list[str] = []

    def pay(to: str, context: ToolContext) -> str:
        """Pay somebody."""
        keys.append(context.idempotency_key)
        return "paid"

    Plain = agent(client="echo:", instruction="You help.", tools=[pay])(type("Plain", (), {}))
    for _ in range(2):
        answers(way, Plain, tool_call("pay", to="Ann"), tool_call("pay", to="Bob"))
    assert [str(UUID(key)) for key in keys] == keys
    assert len({*keys}) == 4
