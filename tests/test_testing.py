"""What users test with is itself strict."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

from agentsession import DslError, ProviderFailed, agent, testing
from agentsession.provider import Reply
from agentsession.turn.effects import Claim, Load
from tests.models import Answer, chat_model


def test_replies_left_over_are_an_assertion_error(Chat: Any) -> None:
    with pytest.raises(AssertionError, match="2 of 3 replies were not asked for"):
        with testing.script(Chat, ["a", "b", "c"]):
            Chat.start_session("Hi")


def test_a_missing_reply_is_an_assertion_error_even_if_the_failure_was_caught(Chat: Any) -> None:
    with pytest.raises(AssertionError, match="asked 2 times, 1 replies were given"):
        with testing.script(Chat, ["a"]):
            Chat.start_session("Hi").continue_session("More")
    with pytest.raises(AssertionError, match="asked 1 times, 0 replies"), testing.script(Chat, []):
        with contextlib.suppress(ProviderFailed):
            Chat.start_session("Hi")


def test_an_error_of_the_test_is_not_replaced(Chat: Any) -> None:
    with pytest.raises(ZeroDivisionError), testing.script(Chat, ["left over"]):
        1 / 0


def test_a_value_that_does_not_fit_the_schema_is_refused_at_once(database: Any) -> None:
    with pytest.raises(ValueError, match="Field required"):
        with testing.script(chat_model(database, output_schema=Answer), [{"wrong": 1}]):
            pytest.fail("the block ran")


def test_replies_may_be_values_texts_and_whole_replies(database: Any) -> None:
    Chat = chat_model(database, output_schema=list[int])
    with testing.script(Chat, [[1, 2], '{"output": [3]}', "[4]", Reply("[5]", thinking="hm")]):
        session = Chat.start_session("Hi")
        outputs = [session.last_result.output]
        for _ in range(3):
            outputs.append(session.continue_session("More").last_result.output)
    assert outputs == [[1, 2], [3], [4], [5]]
    assert session.last_result.thinking == Chat.get_by_id(session.id).last_result.thinking == "hm"


def test_scripts_of_two_models_nest_and_end_with_their_block(database: Any) -> None:
    One = chat_model(database)
    Two = chat_model(database)
    with testing.script(One, ["one"]), testing.script(Two, ["two"]):
        assert (One.call("a").text, Two.call("a").text) == ("one", "two")
    assert One.call("a").text.startswith("You said: a")


def test_a_subclass_is_scripted_with_its_model(Chat: Any) -> None:
    class Sub(Chat):  # type: ignore[misc]
        class Meta:
            table_name = "chat"

    with testing.script(Sub, ["sub"]):
        assert Sub.start_session("Hi").last_result.text == "sub"


def test_another_thread_does_not_see_the_script(Chat: Any) -> None:
    said: list[str] = []
    with testing.script(Chat, ["scripted"]):
        thread = threading.Thread(target=lambda: said.append(Chat.call("a").text))
        thread.start()
        thread.join()
        assert Chat.call("a").text == "scripted"
    assert said[0].startswith("You said: a")


def test_a_crash_ends_the_block_after_the_step(Chat: Any) -> None:
    session = Chat.start_session("Hi")
    after = False
    with testing.crash_after(2) as performed:
        session.continue_session("More")
        after = True
    assert not after
    assert [type(effect) for effect in performed] == [Load, Claim]
    with testing.crash_after(99) as performed:
        Chat.start_session("Hi")
    assert len(performed) == 3


def test_dsl_errors_gives_the_problems_and_demands_some() -> None:
    with testing.dsl_errors() as problems:

        @agent(client="nonsense", instruction="{{")
        class Broken:
            pass

    assert [problem.where.split(" -> ")[1] for problem in problems] == ["client", "instruction"]
    with pytest.raises(AssertionError, match="no DslError"), testing.dsl_errors():
        pass
    assert issubclass(DslError, Exception)
