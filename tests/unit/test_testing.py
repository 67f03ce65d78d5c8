"""What users test with is itself strict: no test passes because nothing was tested."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from agentsession import (
    DslError,
    NothingToResume,
    ProviderCallError,
    ProviderFailed,
    SessionBusy,
    _clock,
    agent,
    info,
    testing,
)
from agentsession._drive.sync import SyncPerformer, drive
from agentsession._turn.effects import CallModel, Claim, Finish, Insert, Load
from agentsession.provider import Delta, PromptMessage, Reply, Request, ToolCall
from agentsession.provider.choose import provider_for
from tests.support.models import Answer, chat_model, roles, texts

pytestmark = pytest.mark.layouts("document")  # the tools for tests sit above the store


def test_replies_left_over_are_an_assertion_error(Chat: Any) -> None:
    with pytest.raises(AssertionError, match="2 of 3 replies were not used"):
        with testing.script(Chat, ["a", "b", "c"]):
            Chat.start_session("Hi")


def test_a_missing_reply_is_an_assertion_error_even_if_the_failure_was_caught(Chat: Any) -> None:
    with pytest.raises(AssertionError, match="called 2 times, and the script has 1 replies"):
        with testing.script(Chat, ["a"]):
            Chat.start_session("Hi").continue_session("More")
    with (
        pytest.raises(AssertionError, match="called 1 times, and the script has 0 replies"),
        testing.script(Chat, []),
    ):
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


def test_a_function_answers_as_many_questions_as_there_are(database: Any) -> None:
    Chat = chat_model(database, output_schema=Answer)
    with testing.script(Chat, lambda prompt: Answer(content=prompt[-1].content.upper())) as asked:
        session = Chat.start_session("one")
        for words in ("two", "three"):
            assert session.continue_session(words).last_result.output == Answer(content=words.upper())
    assert [prompt[-1].content for prompt in asked] == ["one", "two", "three"]


@pytest.mark.backends("sqlite")
def test_a_function_fails_the_call_with_what_it_raises_or_returns(Chat: Any) -> None:
    def down(prompt: Any) -> Reply:
        raise ProviderCallError("down")

    for replies in (down, lambda prompt: ProviderCallError("down")):
        with testing.script(Chat, replies), pytest.raises(ProviderFailed, match="down"):
            Chat.start_session("Hi")


def test_a_lease_runs_out_when_the_clock_is_advanced(Chat: Any) -> None:
    session = Chat.start_session("Hi")
    with testing.clock() as fake:
        with testing.crash_after(2):
            session.continue_session("More")
        fake.advance(29)
        with pytest.raises(SessionBusy, match=r"29\.0 s, its lease ends in 1\.0 s"):
            session.resume_session()
        fake.advance(2)
        assert session.resume_session().last_turn.status == "completed"


def test_a_turn_that_waits_advances_the_clock(database: Any) -> None:
    Chat = chat_model(database, session={"on_busy": "wait", "busy_timeout": 40.0})
    session = Chat.start_session("Hi")
    with testing.clock(1_000_000_000) as fake:
        with testing.crash_after(2):
            session.continue_session("Lost")
        session.continue_session("More")
        assert 30 <= fake.seconds - 1_000_000_000 < 40
    assert texts(Chat, session)[2:4] == ["Lost", "More"]


def test_the_clock_decides_over_the_updated_attribute(Chat: Any) -> None:
    with testing.clock(1_000_000_000):
        session = Chat.start_session("Hi")
    assert Chat.get_by_id(session.id).updated.isoformat() == "2001-09-09T01:46:40"
    assert session.continue_session("More").updated.year > 2001


def test_clocks_nest_and_stand_at_the_time_around_them() -> None:
    before = time.time()
    with testing.clock() as outer:
        assert before <= outer.seconds <= time.time()
        outer.advance(-1000)
        with testing.clock() as inner:
            assert inner.seconds == outer.seconds == _clock.seconds()
            inner.advance(5)
            assert _clock.seconds() == outer.seconds + 5
        assert _clock.seconds() == outer.seconds
    assert _clock.seconds() >= before


def test_another_thread_does_not_see_the_clock() -> None:
    seen: list[float] = []
    with testing.clock(0):
        thread = threading.Thread(target=lambda: seen.append(_clock.seconds()))
        thread.start()
        thread.join()
        assert _clock.seconds() == 0
    assert seen[0] > 1_000_000_000


def test_every_crash_comes_once_and_then_the_run_to_the_end(Chat: Any) -> None:
    said, steps = [], []
    for crash in testing.every_crash():
        with testing.clock() as fake:
            session = Chat.start_session("Hi")
            with crash:
                session.continue_session("More")
            fake.advance(31)
            with contextlib.suppress(NothingToResume):
                session.resume_session()
        steps.append([type(step) for step in crash.performed])
        said.append(roles(Chat, session))
    turn = [Load, Claim, CallModel, Finish]
    assert steps == [turn[:1], turn[:2], turn[:3], turn, turn]
    assert said == [["user", "assistant"] * turns for turns in (1, 2, 2, 2, 2)]


@pytest.mark.backends("sqlite")
def test_waiting_for_a_busy_session_is_no_step(database: Any) -> None:
    Chat = chat_model(database, session={"on_busy": "wait", "busy_timeout": 40.0})
    session = Chat.start_session("Hi", run=False)
    with testing.clock(), testing.crash_after(1000) as performed, pytest.raises(SessionBusy):
        session.continue_session("More")
    assert len(performed) > 1
    assert {type(step) for step in performed} == {Load}


def test_what_a_crash_is_called_names_its_steps(Chat: Any) -> None:
    names = []
    for crash in testing.every_crash():
        with crash:
            Chat.start_session("Hi")
        names.append(str(crash))
    assert names[1:] == [
        "a crash after step 2 (Insert, CallModel)",
        "a crash after step 3 (Insert, CallModel, Finish)",
        "no crash, 3 steps (Insert, CallModel, Finish)",
    ]
    assert repr(crash) == f"<{crash}>"


@pytest.mark.backends("sqlite")
def test_code_that_catches_the_crash_is_told_so(Chat: Any) -> None:
    def stubborn() -> None:
        try:
            Chat.start_session("Hi")
        except BaseException:
            return

    with pytest.raises(AssertionError, match=r"a crash after step 1 \(Insert\), but the block continued"):
        with testing.crash_after(1):
            stubborn()
    with pytest.raises(AssertionError, match="its code caught the crash"):
        for crash in testing.every_crash():
            with crash:
                stubborn()


@pytest.mark.backends("sqlite")
def test_who_is_dead_asks_no_model_any_more(Chat: Any) -> None:
    asked: list[Any] = []
    with testing.script(Chat, asked.append), testing.crash_after(1) as performed:
        try:
            Chat.start_session("Hi")
        finally:
            Chat.start_session("Still here")
    assert asked == []
    assert [type(step) for step in performed] == [Insert]


@pytest.mark.backends("sqlite")
def test_an_error_in_a_round_names_its_step(Chat: Any) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        for crash in testing.every_crash():
            with crash:
                Chat.start_session("Hi")
                1 / 0
    assert raised.value.__notes__ == ["in a block that was to crash after step 4"]


def test_a_round_without_its_block_or_with_two_is_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="did not enter `with crash:`"):
        for _ in testing.every_crash():
            pass
    with pytest.raises(AssertionError, match="a CrashPoint is for one block"):
        for crash in testing.every_crash():
            with crash:
                pass
            with crash:
                pass
    with pytest.raises(ValueError, match="0 is not a step"):
        with testing.crash_after(0):
            pytest.fail("the block ran")


def test_rounds_that_never_come_to_an_end_are_an_assertion_error() -> None:
    @agent(client="echo:", instruction="You help.")
    class Helper:
        pass

    def endless() -> Any:
        while True:
            yield Load()

    with pytest.raises(AssertionError, match="there is no end after 1000 steps"):
        for crash in testing.every_crash():
            with crash:
                list(drive(endless(), SyncPerformer(info.agent_options(Helper), None)))
    assert crash.step == len(crash.performed) == 1000


def test_the_module_does_not_import_pytest() -> None:
    code = "import sys, agentsession.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def provider_of(model: Any) -> tuple[Any, Request]:
    options = info.agent_options(model)
    return provider_for(options, options.client), Request(
        (PromptMessage("user", "Hi"),), options.client, options.output
    )


def asked(replies: Any, output: Any = None) -> list[Any]:
    """The pieces of a stream, to which the other three ways of asking must fit: a script of four replies."""

    @agent(client="echo:parrot", instruction="You help.", output_schema=output)
    class Model: ...

    async def gathered(pieces: Any) -> list[Any]:
        return [piece async for piece in pieces]

    with testing.script(Model, replies):
        provider, request = provider_of(Model)
        pieces = [*provider.stream(request)]
        assert asyncio.run(gathered(provider.astream(request))) == pieces
        assert provider.ask(request) == asyncio.run(provider.aask(request)) == pieces[-1]
    return pieces


@pytest.mark.parametrize(
    ("scripted", "words"),
    [
        ("Hello  there, friend", [Delta("Hello  "), Delta("there, "), Delta("friend")]),
        (Reply("Hello!", thinking="Hm, so"), [Delta("", "Hm, "), Delta("", "so"), Delta("Hello!")]),
        (("Hel", "lo!"), [Delta("Hel"), Delta("lo!")]),
        ([Delta("", "Hm."), "Hel", Delta("lo!")], [Delta("", "Hm."), Delta("Hel"), Delta("lo!")]),
        (("Hel", Reply("Hello!", cost=0.5)), [Delta("Hel")]),
        ("", []),
    ],
)
def test_a_stream_gets_a_scripted_reply_in_pieces(scripted: Any, words: list[Delta]) -> None:
    *deltas, reply = asked([scripted] * 4)
    assert deltas == words
    assert reply == asked(lambda prompt: scripted)[-1]
    assert reply.model == "parrot"
    if not isinstance(scripted, tuple) or isinstance(scripted[-1], str):
        assert reply.text == "".join(delta.text for delta in words)
        assert reply.thinking == "".join(delta.thinking for delta in words)


def test_pieces_of_structured_output_are_told_from_a_value() -> None:
    *deltas, reply = asked([('{"content": "Hel', 'lo"}')] * 4, output=Answer)
    assert deltas == [Delta('{"content": "Hel'), Delta('lo"}')]
    assert reply.text == '{"content": "Hello"}'
    assert asked([["a", "b"]] * 4, output=list[str])[-1].text == '{"output":["a","b"]}'


FIND = testing.tool_call("find", order=3, names=["Zoë"])


@pytest.mark.parametrize(
    ("scripted", "text", "calls"),
    [
        (FIND, "", (FIND,)),
        ([FIND, testing.tool_call("now")], "", (FIND, ToolCall("now"))),
        (("Let me look. ", FIND), "Let me look. ", (FIND,)),
        ((Delta("", "Hm."), FIND, "Now."), "Now.", (FIND,)),
    ],
)
@pytest.mark.parametrize("output", [None, list[Any]])
def test_a_reply_may_ask_for_tools(scripted: Any, text: str, calls: Any, output: Any) -> None:
    *deltas, reply = asked([scripted] * 4, output)
    assert (reply.text, reply.calls, reply.finish_reason) == (text, calls, "tool_calls")
    assert "".join(delta.text for delta in deltas) == text
    assert FIND.arguments == '{"order":3,"names":["Zoë"]}'


@pytest.mark.backends("sqlite")
def test_a_scripted_stream_breaks_off_with_its_error(Chat: Any) -> None:
    came: list[Any] = []
    with testing.script(Chat, [("Hel", "lo", ProviderCallError("cut"))] * 2):
        provider, request = provider_of(Chat)
        with pytest.raises(ProviderCallError, match="cut"):
            came.extend(provider.stream(request))
        with pytest.raises(ProviderCallError, match="cut"):
            provider.ask(request)
    assert came == [Delta("Hel"), Delta("lo")]


@pytest.mark.parametrize("pieces", [("Hel", 5, "lo"), (Reply("Hel"), "lo"), (FIND, Reply("")), ()])
def test_pieces_that_are_none_are_refused_at_once(pieces: Any) -> None:
    with pytest.raises(ValueError, match="string"):
        asked([pieces])
