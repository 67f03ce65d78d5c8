"""A reply with more calls than a function of a database takes arguments."""

from __future__ import annotations

from typing import Any

import pytest

from agentsession import Halt, testing, tool
from agentsession.provider import Reply, ToolCall
from tests.support.models import chat_model


def work(number: int) -> str:
    """Work."""
    return f"did {number}"


@pytest.mark.matrix
@pytest.mark.parametrize("count", [70, 110, 1500])
def test_results_that_arrive_at_once_are_all_stored(database: Any, count: int) -> None:
    Chat = chat_model(database, tools=[work])
    calls = tuple(ToolCall("work", '{"number": "many"}') for _ in range(count))
    with testing.script(Chat, [Reply("", calls=calls), "done"]) as asked:
        session = Chat.start_session("One")
    messages = session.get_context().messages
    assert [message.role for message in messages] == ["user", "assistant", *["tool"] * count, "assistant"]
    assert len({message.id for message in messages}) == len(messages)
    assert len(asked[1]) == count + 3
    with testing.script(Chat, ["two"]):
        assert session.continue_session("Two").last_turn.status == "completed"


@pytest.mark.matrix
def test_a_step_with_many_calls_can_be_resumed_after_a_crash(database: Any) -> None:
    Chat = chat_model(database, tools=[work])
    calls = tuple(ToolCall("work", f'{{"number": {number}}}') for number in range(150))
    with testing.clock() as clock:
        with testing.script(Chat, [Reply("", calls=calls)]), testing.crash_after(3):
            Chat.start_session("One")
        clock.advance(31)
        with testing.script(Chat, ["done"]):
            session = Chat.resume_session(Chat.get().id)
    outcomes = [each.metadata["outcome"] for each in session.get_context().messages if each.role == "tool"]
    assert outcomes == ["unknown"] * 150


@pytest.mark.matrix
def test_a_turn_that_ends_with_many_results_is_stored_completely(database: Any) -> None:
    def stop() -> Halt:
        """Stop."""
        return Halt("stopped")

    @tool(needs_approval=True)
    def pay(number: int) -> str:
        """Pay."""
        return f"paid {number}"

    Chat = chat_model(database, tools=[pay, stop])
    calls = [ToolCall("pay", f'{{"number": {number}}}') for number in range(150)]
    with testing.script(Chat, [Reply("", calls=(*calls, ToolCall("stop", "{}")))]):
        session = Chat.start_session("One")
    assert session.last_turn.status == "completed"
    assert len(session.get_context().messages) == 1 + 1 + 151 + 1
