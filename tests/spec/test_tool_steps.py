"""I4, I12: a turn with tools and an approval that is stopped after any step ends like one that was not.

Exceptions are calls whose outcome is unknown, and those that may run twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from agentsession import ToolContext, testing, tool
from agentsession._turn.model_io import Prompt
from agentsession._turn.tool_messages import results_of
from agentsession.context import Message
from agentsession.testing import tool_call
from tests.support.models import chat_model
from tests.support.turn_spec import WAYS
from tests.support.valid_prompts import assert_can_be_asked

pytestmark = pytest.mark.matrix

STEPS = 17
"""The least number of steps: several calls may end in one step."""

OUTCOMES = {"quick": "completed", "broken": "failed", "find": "completed", "pay": "completed"}
CALLS = ["quick", "broken", "find", "pay", "find"]


def tools_of(runs: Counter[str], **options: Any) -> list[Any]:
    """Return tools that count how often each call has begun."""

    @tool(**options)
    def quick(context: ToolContext) -> str:
        """Ends at once."""
        runs[context.call] += 1
        return "quick"

    @tool(**options)
    def broken(context: ToolContext) -> str:
        """Fails."""
        runs[context.call] += 1
        raise ValueError("no")

    @tool(idempotent=True, **options)
    async def find(context: ToolContext) -> str:
        """May run twice."""
        runs[context.call] += 1
        return "found"

    @tool(needs_approval=True, **options)
    def pay(context: ToolContext) -> str:
        """Needs an approval."""
        runs[context.call] += 1
        return "paid"

    return [quick, broken, find, pay]


def reply_to(prompt: Prompt) -> Any:
    """Request two steps of calls, and then repeat their results."""
    assert_can_be_asked(prompt)
    opening = max(position for position, message in enumerate(prompt) if message.role == "user")
    replies = prompt[opening + 1 :]
    match sum(bool(message.calls) for message in replies):
        case 0:
            return "Let me look. ", tool_call("quick"), tool_call("broken"), tool_call("find")
        case 1:
            return tool_call("pay"), tool_call("find")
    return " | ".join(message.content for message in replies if message.role == "tool")


class Actions:
    """The actions of a model, called in one way."""

    def __init__(self, Chat: Any, way: str, runner: asyncio.Runner) -> None:
        self.Chat, self.way, self.runner = Chat, way, runner

    def __call__(self, name: str, *arguments: Any) -> Any:
        if "async" in self.way:
            return self.runner.run(self.on_a_loop(name, *arguments), context=copy_context())
        if self.way == "plain":
            return getattr(self.Chat, name)(*arguments)
        with getattr(self.Chat, f"stream_{name}")(*arguments) as stream:
            for _ in stream:
                pass
            return stream.session

    async def on_a_loop(self, name: str, *arguments: Any) -> Any:
        if self.way == "async":
            return await getattr(self.Chat, f"a{name}")(*arguments)
        async with getattr(self.Chat, f"astream_{name}")(*arguments) as stream:
            async for _ in stream:
                pass
            return stream.session

    def complete(self, key: Any) -> None:
        """Approve and resume the turn until it is completed."""
        while self.Chat.get_by_id(key).last_turn.status != "completed":
            for approval in self.Chat.get_by_id(key).approvals:
                approval.approve(by="ann")
            self("resume_session", key)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
@pytest.mark.parametrize("way", WAYS)
def test_a_turn_stopped_after_any_step_ends_like_one_that_was_not_stopped(
    database: Any, runner: asyncio.Runner, way: str
) -> None:
    stop_after_each_step(database, runner, way)


@pytest.mark.layouts("rows")
def test_a_turn_in_rows_stopped_after_any_step_ends_like_one_that_was_not_stopped(
    database: Any, runner: asyncio.Runner
) -> None:
    stop_after_each_step(database, runner, "plain")


def stop_after_each_step(database: Any, runner: asyncio.Runner, way: str) -> None:
    runs: Counter[str] = Counter()
    Chat = chat_model(database, tools=tools_of(runs))
    act = Actions(Chat, way, runner)
    for crash in testing.every_crash():
        with testing.script(Chat, reply_to), testing.clock() as clock:
            key = Chat.start_session("Pay it", run=False).id
            with crash:
                act.complete(key)
            before = Chat.get_context(key)
            clock.advance(31)
            act.complete(key)
            after = Chat.get_context(key)
            assert is_prefix_of(before.messages, after.messages), crash
            assert each_call_has_its_result(after.messages, runs, was_stopped=crash.happened), crash
            act("continue_session", key, "Again")
    assert crash.step > STEPS


def is_prefix_of(before: tuple[Message, ...], after: tuple[Message, ...]) -> bool:
    stored_contents = [(message.id, message.role, message.content) for message in before]
    return (
        stored_contents
        == [(message.id, message.role, message.content) for message in after][: len(stored_contents)]
    )


def each_call_has_its_result(messages: tuple[Message, ...], runs: Counter[str], *, was_stopped: bool) -> bool:
    """Return whether each call was made and has its result."""
    roles = "".join(message.role[0] for message in messages)
    assert roles == "uatttatta"
    turn, texts = messages[0].turn, []
    results = results_of(messages)
    keys = [f"{turn}:{step}:{index}" for step, count in enumerate((3, 2)) for index in range(count)]
    assert [*results] == sorted(results, key=lambda key: key.split(":")[1])
    for key, name in zip(keys, CALLS, strict=True):
        outcome = results[key].metadata["outcome"]
        may_be_unknown = was_stopped and name != "find"
        assert outcome == OUTCOMES[name] or (may_be_unknown and outcome == "unknown")
        assert runs[key] in (
            [1, 2] if was_stopped and name == "find" else [1] if outcome != "unknown" else [0, 1]
        )
        assert ("approval" in results[key].metadata) == (name == "pay")
        texts.append(results[key].text)
    assert messages[-1].text == " | ".join(texts)
    return True
