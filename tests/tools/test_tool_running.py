"""How the calls of a step are run: at once, alone, within their time, on a thread or a task of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import peewee as pw
import pytest

from agentsession import LeaseLost, ToolContext, testing, tool
from agentsession.testing import tool_call
from tests.support.models import open_database
from tests.support.tool_sessions import WAYS, Way, astreamed, awaited, plain, results, said, shown, tooled


def on_sqlite(test: Any) -> Any:
    """Where and how the messages are stored makes no difference."""
    return pytest.mark.backends("sqlite")(pytest.mark.layouts("document")(test))


@on_sqlite
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["functions", "coroutines"])
def test_the_calls_of_a_step_run_at_the_same_time(way: Way, kind: str, database: Any) -> None:
    meeting = threading.Barrier(3, timeout=20)

    def meet(name: str) -> str:
        """Meet."""
        meeting.wait()
        return name

    async def ameet(name: str) -> str:
        """Meet."""
        await asyncio.to_thread(meeting.wait)
        return name

    Chat = tooled(database, meet if kind == "functions" else tool(name="meet")(ameet))
    record, _, _ = said(way, Chat, [[tool_call("meet", name=name) for name in "abc"], "ok"])
    assert sorted(results(Chat, record.id)) == [("completed", name) for name in "abc"]


@on_sqlite
@pytest.mark.parametrize("way", WAYS)
def test_a_tool_that_wants_to_run_alone_does(way: Way, database: Any) -> None:
    running: list[str] = []
    seen: list[list[str]] = []

    def work(name: str) -> str:
        """Work."""
        running.append(name)
        seen.append(list(running))
        time.sleep(0.02)
        running.remove(name)
        return name

    careful = tool(name="careful", sequential=True)(lambda name: work(name))
    careful.__annotations__["name"] = str
    careful.__doc__ = "Work alone."
    Chat = tooled(database, work, careful)
    calls = [
        tool_call(each, name=f"{each} {n}") for n, each in enumerate(("work", "careful", "work", "careful"))
    ]
    record, _, _ = said(way, Chat, [calls, "ok"])
    assert len(results(Chat, record.id)) == 4
    assert all(len(each) == 1 for each in seen if any(name.startswith("careful") for name in each))


@on_sqlite
@pytest.mark.parametrize("way", WAYS)
def test_more_calls_than_may_run_at_once_are_run_all_the_same(way: Way, database: Any) -> None:
    at_once, most = [0], [0]
    lock = threading.Lock()

    def count(number: int) -> int:
        """Count."""
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.01)
        with lock:
            at_once[0] -= 1
        return number

    Chat = tooled(database, count)
    record, _, _ = said(way, Chat, [[tool_call("count", number=n) for n in range(40)], "ok"])
    assert sorted(int(text) for _, text in results(Chat, record.id)) == list(range(40))
    assert most[0] <= 16


@on_sqlite
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_tool_that_is_too_slow_is_not_waited_for(way: Way, kind: str, database: Any) -> None:
    ended = threading.Event()
    cancelled: list[bool] = []

    @tool(timeout=0.1)
    def wait() -> str:
        """Wait."""
        ended.wait(20)
        return "late"

    @tool(timeout=0.1, name="wait")
    async def await_() -> str:
        """Wait."""
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "late"

    def quick() -> str:
        """Quick."""
        return "quick"

    Chat = tooled(database, wait if kind == "function" else await_, quick)
    began = time.monotonic()
    record, asked, _ = said(way, Chat, [(tool_call("wait"), tool_call("quick")), "ok"])
    ended.set()
    assert time.monotonic() - began < 10
    late = "It did not end within 0.1 s, and may still be running."
    assert shown(asked[1])[-2:] == [("tool", late), ("tool", "quick")]
    assert sorted(results(Chat, record.id)) == [("completed", "quick"), ("timed_out", late)]
    if kind == "coroutine" and way in (awaited, astreamed):
        assert cancelled == [True]


@on_sqlite
def test_a_limit_may_be_as_large_as_a_float(database: Any) -> None:
    def quick() -> str:
        """Quick."""
        return "quick"

    Chat = tooled(database, quick, tool_timeout=1e300)
    for way in WAYS:
        record, _, _ = said(way, Chat, [tool_call("quick"), "ok"])
        assert results(Chat, record.id) == [("completed", "quick")]


@on_sqlite
def test_a_tool_that_refuses_to_be_cancelled_holds_nobody_up(database: Any) -> None:
    async def stay() -> str:
        """Stay."""
        for _ in range(10):
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue
        return "late"

    Chat = tooled(database, stay)

    async def talk() -> float:
        task = asyncio.create_task(Chat.astart_session("Hello!"))
        await asyncio.sleep(0.3)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    with testing.script(Chat, [tool_call("stay")]):
        runner = asyncio.Runner()
        assert runner.run(talk()) < 5
        runner.close()
    assert Chat.get().last_turn.status == "interrupted"


@on_sqlite
def test_the_agent_has_a_limit_for_all_its_tools(database: Any) -> None:
    def wait() -> str:
        """Wait."""
        time.sleep(0.5)
        return "late"

    Chat = tooled(database, wait, tool_timeout=0.05)
    _, asked, _ = said(plain, Chat, [tool_call("wait"), "ok"])
    assert shown(asked[1])[-1][1].startswith("It did not end within 0.05 s")


@pytest.mark.parametrize("way", WAYS)
def test_a_tool_that_uses_the_database_leaves_no_connection_open(way: Way, database: Any) -> None:
    threads: list[threading.Thread] = []
    states: list[Any] = []

    def count() -> int:
        """Count."""
        threads.append(threading.current_thread())
        found: int = Chat.select().count()
        states.append(database._state.conn)
        return found

    Chat = tooled(database, count)
    closed: list[Any] = []
    close = database._close
    database._close = lambda connection: (closed.append(connection), close(connection))
    record, _, _ = said(way, Chat, [tool_call("count"), "1"])
    assert results(Chat, record.id) == [("completed", "1")]
    assert threads[0] is not threading.current_thread()
    assert states[0] in closed


@pytest.mark.parametrize("way", WAYS)
def test_in_memory_a_tool_sees_the_data(way: Way) -> None:
    database = pw.SqliteDatabase(":memory:")
    database.connect()

    def count() -> int:
        """Count."""
        found: int = Chat.select().count()
        return found

    async def acount() -> int:
        """Count."""
        found: int = Chat.select().count()
        return found

    Chat = tooled(database, count, acount, create=False)
    database.create_tables([Chat])
    record, asked, _ = said(way, Chat, [(tool_call("count"), tool_call("acount")), "1"])
    assert [text for role, text in shown(asked[1]) if role == "tool"] == ["1", "1"]
    assert record.last_result.text == "1"


@on_sqlite
def test_inside_a_transaction_a_tool_sees_what_it_has_done(database: Any) -> None:
    def count() -> int:
        """Count."""
        found: int = Chat.select().count()
        return found

    Chat = tooled(database, count)
    with database.connection_context(), database.atomic(), testing.inside_transaction():
        record, _, _ = said(plain, Chat, [tool_call("count"), "1"])
        assert results(Chat, record.id) == [("completed", "1")]


@pytest.mark.layouts("document")
def test_slow_tools_share_one_connection(database_url: str) -> None:
    """I2, for tools: a pool of one, and all turns wait in their tools at the same time."""
    database = open_database(database_url, pool=1)
    many = 8
    meeting = threading.Barrier(many, timeout=30)

    def meet() -> str:
        """Meet."""
        meeting.wait()
        return "met"

    Chat = tooled(database, meet)
    done: list[str] = []

    def talk() -> None:
        with testing.script(Chat, [tool_call("meet"), "ok"]):
            done.append(Chat.start_session("Hello!").last_result.text)

    threads = [threading.Thread(target=talk) for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == ["ok"] * many


@on_sqlite
@pytest.mark.parametrize("way", [plain, astreamed])
def test_a_turn_whose_tool_is_slow_keeps_its_claim(way: Way, database: Any) -> None:
    def wait() -> str:
        """Wait."""
        time.sleep(1.0)
        return "done"

    Chat = tooled(database, wait, session={"lease": 0.4})
    record, _, _ = said(way, Chat, [tool_call("wait"), "ok"])
    assert record.last_result.text == "ok"


@on_sqlite
@pytest.mark.parametrize("way", WAYS)
def test_a_turn_that_was_taken_over_while_its_tool_ran_stores_nothing(way: Way, database: Any) -> None:
    def lose() -> str:
        """Lose the claim."""
        with database.connection_context():
            (row,) = Chat.select()
            row.context["turn"]["claim"] = "another"
            Chat.update(context=row.context).where(Chat.id == row.id).execute()
        time.sleep(1.0)
        return "done"

    Chat = tooled(database, lose, session={"lease": 0.4})
    began = time.monotonic()
    error, _, _ = said(way, Chat, [tool_call("lose")])
    assert isinstance(error, LeaseLost)
    assert time.monotonic() - began < 0.9
    assert results(Chat, error.session.id) == []


@on_sqlite
def test_a_stream_that_is_left_while_a_tool_runs_is_interrupted(database: Any) -> None:
    going_on, ended = threading.Event(), threading.Event()

    def slow(context: ToolContext) -> str:
        """Slow."""
        context.report("begun")
        going_on.wait(20)
        ended.set()
        return "late"

    def quick() -> str:
        """Quick."""
        return "quick"

    Chat = tooled(database, slow, quick)
    with testing.script(Chat, [(tool_call("quick"), tool_call("slow"))]):
        with Chat.stream_start_session("Hello!") as stream:
            for event in stream:
                if event.name == "tool_finished":
                    break
    record = stream.session
    assert (record.last_turn.status, record.last_turn.error.type) == ("interrupted", "StreamClosed")
    assert results(Chat, record.id) == [("completed", "quick")]
    going_on.set()
    assert ended.wait(20)
    _, asked, _ = said(plain, Chat, ["I see."], "continue_session", record.id, "Well?")
    told = [content for role, content in shown(asked[0]) if role == "tool"]
    assert told[0] == "quick"
    assert told[1].startswith("It is not known whether this call was carried out")
    assert shown(asked[0])[-2:] == [("assistant", "(This was not answered.)"), ("user", "Well?")]


@on_sqlite
def test_who_is_cancelled_cancels_the_tools(database: Any) -> None:
    ended: list[str] = []

    async def slow() -> str:
        """Slow."""
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "late"

    Chat = tooled(database, slow)

    async def talk() -> None:
        task = asyncio.create_task(Chat.astart_session("Hello!"))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["cancelled"]

    with testing.script(Chat, [tool_call("slow")]):
        asyncio.run(talk())
    (record,) = Chat.select()
    assert record.last_turn.status == "interrupted"
    _, asked, _ = said(plain, Chat, ["ok"], "resume_session", record.id)
    assert shown(asked[0])[-1][1].startswith("It is not known")


@on_sqlite
@pytest.mark.parametrize("way", [awaited, astreamed])
def test_a_tool_that_cancels_itself_has_failed(way: Way, database: Any) -> None:
    async def give_up() -> str:
        """Give up."""
        raise asyncio.CancelledError("enough")

    Chat = tooled(database, give_up)
    record, _, _ = said(way, Chat, [tool_call("give_up"), "ok"])
    assert results(Chat, record.id) == [("failed", "CancelledError: enough")]


@on_sqlite
@pytest.mark.parametrize("way", WAYS)
def test_a_tool_that_exits_has_failed(way: Way, database: Any) -> None:
    def leave() -> str:
        """Leave."""
        raise SystemExit(3)

    Chat = tooled(database, leave)
    record, _, _ = said(way, Chat, [tool_call("leave"), "ok"])
    assert results(Chat, record.id) == [("failed", "SystemExit: 3")]


@on_sqlite
def test_events_tell_of_progress_while_the_tool_runs(database: Any) -> None:
    heard = threading.Event()

    def work(context: ToolContext) -> str:
        """Work."""
        context.report({"percent": 10})
        assert heard.wait(20), "nobody followed the progress"
        return "done"

    Chat = tooled(database, work)
    with testing.script(Chat, [tool_call("work"), "ok"]):
        with Chat.stream_start_session("Hello!") as stream:
            for event in stream:
                if event.name == "tool_progress":
                    heard.set()
    assert results(Chat, stream.session.id) == [("completed", "done")]


@on_sqlite
def test_each_result_is_stored_as_soon_as_it_is_there(database: Any) -> None:
    stored: list[Any] = []
    going_on = threading.Event()

    def slow() -> str:
        """Slow."""
        going_on.wait(20)
        return "slow"

    def quick() -> str:
        """Quick."""
        return "quick"

    Chat = tooled(database, slow, quick)
    with testing.script(Chat, [(tool_call("slow"), tool_call("quick")), "ok"]):
        with Chat.stream_start_session("Hello!") as stream:
            for event in stream:
                if event.name == "tool_finished" and not stored:
                    stored += results(Chat, stream.session.id)
                    going_on.set()
    assert stored == [("completed", "quick")]


@on_sqlite
@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_result_that_came_in_time_counts_however_late_it_is_looked_at(
    way: str, kind: str, database: Any
) -> None:
    @tool(timeout=0.2)
    def pay() -> str:
        """Pay."""
        return "paid"

    @tool(timeout=0.2, name="pay")
    async def apay() -> str:
        """Pay."""
        return "paid"

    Chat = tooled(database, pay if kind == "function" else apay)

    async def follow() -> Any:
        async with Chat.astream_start_session("Hello!") as stream:
            async for event in stream:
                if event.name == "tool_started":
                    time.sleep(0.5)
        return stream.session

    with testing.script(Chat, [tool_call("pay"), "ok"]):
        if way == "async":
            record = asyncio.run(follow())
        else:
            with Chat.stream_start_session("Hello!") as stream:
                for event in stream:
                    if event.name == "tool_started":
                        time.sleep(0.5)
            record = stream.session
    assert results(Chat, record.id) == [("completed", "paid")]


@on_sqlite
def test_who_leaves_while_results_are_prepared_loses_none(database: Any) -> None:
    class Hooks:
        def prepare_tool_results(self, context: Any, ran: Any) -> None:
            raise KeyboardInterrupt

    def pay() -> str:
        """Pay."""
        return "paid 4111"

    Chat = tooled(database, pay, hooks=Hooks)
    with testing.script(Chat, [tool_call("pay")]), pytest.raises(KeyboardInterrupt):
        Chat.start_session("Hello!")
    record = Chat.get()
    assert (record.last_turn.status, results(Chat, record.id)) == (
        "interrupted",
        [("completed", "paid 4111")],
    )
    _, asked, _ = said(plain, Chat, ["I see."], "resume_session", record.id)
    assert shown(asked[0])[-1] == ("tool", "It has run. Its result is not shown, since the turn was stopped.")


@on_sqlite
@pytest.mark.parametrize("way", WAYS)
def test_a_call_for_which_there_is_no_thread_has_failed(
    way: Way, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "agentsession-tool":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    Chat = tooled(database, look)
    record, _, _ = said(way, Chat, [tool_call("look"), "ok"])
    assert results(Chat, record.id) == [("failed", "RuntimeError: can't start new thread")]
