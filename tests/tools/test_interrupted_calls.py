"""What is known of the calls when a turn is left while they run."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from agentsession import agent, info, testing, tool
from agentsession._drive.asynchronous import AsyncPerformer
from agentsession._drive.sync import SyncPerformer
from agentsession._turn.effects import ClaimLost, Interrupted, RunTools
from agentsession._turn.tool_messages import results_of
from agentsession.events import ToolFinished
from agentsession.testing import tool_call
from tests.support.models import chat_model

pytestmark = pytest.mark.backends("sqlite")


def options() -> Any:
    @agent(client="echo:", instruction="You help.")
    class Helper: ...

    return info.agent_options(Helper)


def test_who_leaves_is_told_so_although_the_claim_is_gone_as_well() -> None:
    with pytest.raises(Interrupted) as stopped:
        with SyncPerformer(options(), None).run_tools(RunTools("t")) as batch:
            batch.queue.put(ClaimLost())
            raise KeyboardInterrupt
    assert isinstance(stopped.value.__cause__, KeyboardInterrupt)


def test_who_is_cancelled_is_told_so_although_the_claim_is_gone_as_well() -> None:
    async def cancelled() -> None:
        async with AsyncPerformer(options(), None).run_tools(RunTools("t")) as batch:
            batch.tasks["running"] = asyncio.create_task(asyncio.sleep(60))
            running.append(batch.tasks["running"])
            batch.queue.put_nowait(ClaimLost())
            raise asyncio.CancelledError

    running: list[Any] = []
    with pytest.raises(Interrupted) as stopped:
        asyncio.run(cancelled())
    assert isinstance(stopped.value.__cause__, asyncio.CancelledError)
    assert running[0].cancelled()


@pytest.mark.parametrize("way", ["stream", "async_stream"])
def test_a_result_that_came_before_a_stream_was_left_is_stored(database: Any, way: str) -> None:
    """While its consumer was busy with the result of another."""

    @tool
    async def quick() -> str:
        """Is soon done."""
        return "quick"

    @tool
    async def slow() -> str:
        """Takes a moment."""
        await asyncio.sleep(0.05)
        return "slow"

    Chat = chat_model(database, tools=[quick, slow])
    key = Chat.start_session("Hello", run=False).id

    async def leave() -> None:
        async with Chat.astream_resume_session(key) as stream:
            async for event in stream:
                if isinstance(event, ToolFinished):
                    await asyncio.sleep(0.2)
                    break

    with testing.script(Chat, [(tool_call("quick"), tool_call("slow"))]):
        if way == "async_stream":
            asyncio.run(leave())
        else:
            with Chat.stream_resume_session(key) as stream:
                next(event for event in stream if isinstance(event, ToolFinished))
                time.sleep(0.2)
    results = results_of(Chat.get_context(key).messages).values()
    assert sorted(result.text for result in results) == ["quick", "slow"]


def test_a_call_that_may_have_run_is_not_run_again_by_an_approval_that_was_not_needed_then(
    database: Any,
) -> None:
    runs: list[int] = []
    is_careful: list[bool] = []

    @tool(needs_approval=lambda _: bool(is_careful))
    def pay(n: int) -> str:
        """Must not run twice."""
        runs.append(n)
        raise SystemError if is_careful else testing.Crash

    Chat = chat_model(database, tools=[pay])
    with testing.clock() as clock:
        session = Chat.start_session("Pay", run=False)
        with testing.script(Chat, [tool_call("pay", n=1)]), testing.crash_after(5):
            Chat.resume_session(session.id)
        assert runs == [1]
        clock.advance(31)
        is_careful.append(True)
        with testing.script(Chat, lambda prompt: "done"):
            session = Chat.resume_session(session.id)
            for approval in session.approvals:
                approval.approve()
                Chat.resume_session(session.id)
    assert runs == [1]
