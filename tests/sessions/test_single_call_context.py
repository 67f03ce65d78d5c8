"""`result.context`: a single call goes on from the conversation of an earlier one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import peewee as pw
import pytest

from agentsession import (
    Context,
    Halt,
    InputInvalid,
    Result,
    agent,
    assistant_message,
    build_context,
    instruction_message,
    testing,
    user_message,
)
from agentsession.testing import tool_call
from tests.support.models import Answer, Ask, chat_model


def count(word: str) -> int:
    """Count the letters of a word."""
    return len(word)


def stop() -> Halt:
    """End the turn."""
    return Halt("stopped")


@agent(client="echo:", instruction="You help {{ name }}.", tools=[count, stop])
class Helper:
    pass


@agent(client="echo:", instruction="You help.", input_schema=Ask, output_schema=Answer)
class Typed:
    pass


def call(model: Any, given: Any, **options: Any) -> Result[Any]:
    result: Result[Any] = model.call(given, **options)
    return result


def acall(model: Any, given: Any, **options: Any) -> Result[Any]:
    return asyncio.run(model.acall(given, **options))


def stream(model: Any, given: Any, **options: Any) -> Result[Any]:
    with model.stream(given, **options) as events:
        list(events)
    result: Result[Any] = events.result
    return result


def astream(model: Any, given: Any, **options: Any) -> Result[Any]:
    async def follow() -> Any:
        async with model.astream(given, **options) as events:
            async for _ in events:
                pass
        return events.result

    return asyncio.run(follow())


WAYS = [call, acall, stream, astream]
Way = Callable[..., Result[Any]]


def context_of(result: Result[Any]) -> Context:
    assert result.context is not None
    return result.context


@pytest.mark.parametrize("way", WAYS)
def test_the_next_call_sees_the_whole_conversation(way: Way) -> None:
    with testing.script(Helper, ["Hello Ann.", "Fine."]) as asked:
        first = way(Helper, "Hi", instruction_args={"name": "Ann"})
        context = build_context(Helper, [first.context, user_message(Helper, message="How are you?")])
        second = way(Helper, context)
    assert [(each.role, each.content) for each in asked[1]] == [
        ("system", "You help Ann."),
        ("user", "Hi"),
        ("assistant", "Hello Ann."),
        ("user", "How are you?"),
    ]
    said = [(message.role, message.text) for message in context_of(second).messages]
    assert said == [(each.role, each.content) for each in asked[1]] + [("assistant", "Fine.")]
    assert context_of(second).count == 5


def test_the_context_has_tool_calls_and_results() -> None:
    replies = [(tool_call("count", word="four"),), "4", (tool_call("count", word="seven"),), "5", "9"]
    with testing.script(Helper, replies) as asked:
        first = Helper.call("Count four", instruction_args={"name": "Ann"})
        second = Helper.call("Count seven", instruction_args={"name": "Bob"})
        both = [first.context, second.context, user_message(Helper, message="Together?")]
        Helper.call(build_context(Helper, both))
    calls = [each.id for message in asked[-1] for each in message.calls]
    results = [(message.call, message.content) for message in asked[-1] if message.role == "tool"]
    assert len(set(calls)) == 2
    assert results == list(zip(calls, ["4", "5"], strict=True))


def test_the_context_has_a_turn_that_a_tool_ended() -> None:
    with testing.script(Helper, [(tool_call("stop"),)]):
        result = Helper.call("Hi", instruction_args={"name": "Ann"})
    roles = [message.role for message in context_of(result).messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant"]
    assert context_of(result).messages[-1].text == "stopped"


def test_the_context_omits_a_reply_that_did_not_fit() -> None:
    with testing.script(Typed, ["no JSON", Answer(content="yes")]):
        result = Typed.call("Hi")
    assert [message.text for message in context_of(result).messages] == [
        "You help.",
        "Hi",
        '{"content":"yes"}',
    ]


def test_a_context_with_an_instruction_keeps_it() -> None:
    given = [instruction_message(Helper, name="Ann"), user_message(Helper, message="Hi")]
    result = Helper.call(build_context(Helper, given))
    assert [message.role for message in context_of(result).messages] == ["system", "user", "assistant"]


def test_the_result_of_a_session_has_no_context(tmp_path: Any) -> None:
    Chat = chat_model(
        pw.SqliteDatabase(tmp_path / "chat.db", pragmas={"journal_mode": "wal", "busy_timeout": 1})
    )
    assert Chat.start_session("Hello").last_result.context is None


@pytest.mark.parametrize(
    "said", [Answer(content="Until six."), {"content": "Until six."}, '{"content":"Until six."}']
)
def test_an_assistant_message_equals_a_reply_of_the_model(said: Any) -> None:
    given = [
        user_message(Typed, message="Open?"),
        assistant_message(Typed, said),
        user_message(Typed, message="OK"),
    ]
    with testing.script(Typed, [Answer(content="Yes.")]) as asked:
        Typed.call(build_context(Typed, given))
    assert [(each.role, each.content) for each in asked[0]][1:] == [
        ("user", "Open?"),
        ("assistant", '{"content":"Until six."}'),
        ("user", "OK"),
    ]
    assert given[1].parse(Answer) == Answer(content="Until six.")


def test_an_assistant_message_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputInvalid, match="the reply does not fit Answer: content: Field required"):
        assistant_message(Typed, {"text": "x"})
    with pytest.raises(InputInvalid, match="the reply does not fit str"):
        assistant_message(Helper, 5)
