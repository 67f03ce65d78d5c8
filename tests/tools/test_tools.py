"""The tool loop: the model asks for calls, they are run, and it is asked again, inside one turn."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel

from agentsession import (
    BudgetExceeded,
    Halt,
    MaxIterations,
    NoResult,
    ToolContext,
    ToolFailed,
    Usage,
    agent,
    info,
    testing,
    tool,
)
from agentsession.provider import Reply, ToolCall
from agentsession.testing import tool_call
from tests.support.models import Answer, roles, stored
from tests.support.tool_sessions import WAYS, Way, plain, results, said, shown, streamed, tooled


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def greet(name: str) -> dict[str, str]:
    """Greet somebody."""
    return {"greeting": f"Hello, {name}!"}


def broken() -> None:
    """Never works."""
    raise ValueError("no luck")


TWO_STEPS = [
    ("Let me see. ", tool_call("add", a=1, b=2), tool_call("greet", name="Ann")),
    [tool_call("add", a=3, b=4)],
    "It is 7.",
]


@pytest.mark.parametrize("way", WAYS)
def test_a_turn_asks_for_tools_until_there_is_an_answer(way: Way, database: Any) -> None:
    Chat = tooled(database, add, greet)
    record, asked, events = said(way, Chat, TWO_STEPS)
    assert record.last_result.text == "It is 7."
    assert sorted(results(Chat, record.id)) == sorted(
        [("completed", "3"), ("completed", '{"greeting":"Hello, Ann!"}'), ("completed", "7")]
    )
    assert roles(Chat, record.id) == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
    assert shown(asked[-1]) == [
        ("user", "Hello!"),
        ("assistant", "Let me see. "),
        ("tool", "3"),
        ("tool", '{"greeting":"Hello, Ann!"}'),
        ("assistant", ""),
        ("tool", "7"),
    ]
    if events:
        names = [event.name for event in events]
        assert names[0] == "turn_started"
        assert names[-1] == "turn_finished"
        assert (names.count("tool_started"), names.count("tool_finished")) == (3, 3)


def test_all_ways_store_the_same(database: Any) -> None:
    maps = []
    for way in WAYS:
        Chat = tooled(database, add)
        record, _, _ = said(way, Chat, [tool_call("add", a=1, b=2), "3"], "start_session", "Hello!")
        found = stored(record)
        maps.append(
            [(m["role"], m["content"] if m["role"] != "assistant" else "") for m in found["messages"]]
        )
        for part in maps[-1][2][1]:
            part["call"] = part["call"].partition(":")[2]
    assert maps == maps[:1] * len(WAYS)


def test_the_next_turn_is_shown_the_calls_and_their_results(database: Any) -> None:
    Chat = tooled(database, add)
    record, asked, _ = said(plain, Chat, [tool_call("add", a=1, b=2), "3"])
    _, later, _ = said(plain, Chat, ["Yes."], "continue_session", record.id, "Sure?")
    assert later[0][: len(asked[1])] == asked[1]
    assert shown(later[0])[-2:] == [("assistant", "3"), ("user", "Sure?")]


def test_the_reply_with_its_calls_is_stored_before_a_tool_runs(database: Any) -> None:
    seen: list[Any] = []

    def look() -> str:
        """Look at what is stored."""
        with database.connection_context():
            (row,) = Chat.select(Chat.id)
            seen.extend(message.role for message in Chat.get_context(row.id).messages)
        return "seen"

    Chat = tooled(database, look)
    said(plain, Chat, [tool_call("look"), "ok"])
    assert seen == ["user", "assistant"]


def test_mistakes_of_the_model_go_back_to_it(database: Any) -> None:
    Chat = tooled(database, add)
    calls = (
        tool_call("subtract", a=1, b=2),
        tool_call("add", a="one", b=2, c=3),
        ToolCall("add", "no JSON"),
        ToolCall("add", "[1, 2]"),
        ToolCall("", ""),
    )
    record, asked, _ = said(plain, Chat, [calls, "Sorry."])
    assert record.last_result.text == "Sorry."
    found = [content for role, content in shown(asked[1]) if role == "tool"]
    assert found[0] == 'There is no tool "subtract". There are: add'
    assert "a: Input should be a valid integer" in found[1]
    assert "c" in found[1]
    assert [text.startswith("The arguments do not fit: ") for text in found[1:4]] == [True] * 3
    assert "one" not in found[1]
    assert found[4] == 'There is no tool "". There are: add'


@pytest.mark.parametrize("way", WAYS)
def test_the_error_of_a_tool_is_sent_to_the_model(way: Way, database: Any) -> None:
    Chat = tooled(database, broken)
    record, asked, events = said(way, Chat, [tool_call("broken"), "It failed."])
    assert shown(asked[1])[-1] == ("tool", "ValueError: no luck")
    assert results(Chat, record.id) == [("failed", "ValueError: no luck")]
    finished = [event for event in events if event.name == "tool_finished"]
    assert [(each.error, each.outcome) for each in finished] in ([], [("ValueError: no luck", "failed")])


@pytest.mark.parametrize("way", WAYS)
def test_a_tool_that_fails_ends_the_turn_where_that_is_wanted(way: Way, database: Any) -> None:
    Chat = tooled(database, broken, add, on_tool_error="halt")
    error, _, _ = said(way, Chat, [(tool_call("broken"), tool_call("add", a=1, b=1))])
    assert isinstance(error, ToolFailed)
    assert error.found == "the tool broken failed: ValueError: no luck"
    assert isinstance(error.__cause__, ValueError)
    assert error.session.last_turn.status == "failed"
    assert sorted(results(Chat, error.session.id)) == [("completed", "2"), ("failed", "ValueError: no luck")]
    record, asked, _ = said(way, Chat, ["I see."], "resume_session", error.session.id)
    assert record.last_result.text == "I see."
    assert shown(asked[0])[-2:] == [("tool", "ValueError: no luck"), ("tool", "2")]


def test_a_mistake_of_the_model_ends_no_turn(database: Any) -> None:
    Chat = tooled(database, add, on_tool_error="halt")
    record, _, _ = said(plain, Chat, [tool_call("nothing"), "ok"])
    assert record.last_result.text == "ok"


@pytest.mark.parametrize("way", WAYS)
def test_a_tool_may_end_the_turn(way: Way, database: Any) -> None:
    def hand_over(reason: str) -> Halt:
        """Hand over to a person."""
        return Halt(Answer(content=f"A colleague will answer: {reason}"))

    Chat = tooled(database, hand_over, add, output_schema=Answer)
    calls = (tool_call("hand_over", reason="angry"), tool_call("add", a=1, b=1))
    record, _, _ = said(way, Chat, [calls])
    assert record.last_result.output == Answer(content="A colleague will answer: angry")
    assert record.last_result.finish_reason == "halt"
    assert record.last_turn.status == "completed"
    assert Chat.get_by_id(record.id).last_result.output.content.startswith("A colleague")
    assert roles(Chat, record.id) == ["user", "assistant", "tool", "tool", "assistant"]
    _, asked, _ = said(way, Chat, [Answer(content="ok")], "continue_session", record.id, "Thanks")
    assert [role for role, _ in shown(asked[0])] == ["user", "assistant", "tool", "tool", "assistant", "user"]


def test_what_a_tool_ends_the_turn_with_has_to_be_an_output(database: Any) -> None:
    def stop() -> Halt:
        """Stop."""
        return Halt({"wrong": 1})

    Chat = tooled(database, stop, output_schema=Answer)
    record, asked, _ = said(plain, Chat, [tool_call("stop"), Answer(content="so")])
    assert record.last_result.output == Answer(content="so")
    assert "a value that does not fit" in shown(asked[1])[-1][1]


def test_a_model_that_never_stops_asking_is_stopped(database: Any) -> None:
    Chat = tooled(database, add, max_iterations=2)
    call = tool_call("add", a=1, b=1)
    error, _, _ = said(plain, Chat, [call, ("And again: ", call)])
    assert isinstance(error, MaxIterations)
    assert "(add) in its reply number 2" in error.found
    assert results(Chat, error.session.id) == [("completed", "2")]
    messages = Chat.get_context(error.session.id).messages
    assert (messages[-1].text, messages[-1].metadata) == ("And again: ", {"status": "failed"})
    record, asked, _ = said(plain, Chat, ["2"], "resume_session", error.session.id)
    assert record.last_result.text == "2"
    assert shown(asked[0]) == [("user", "Hello!"), ("assistant", ""), ("tool", "2")]


def reply(call: ToolCall | None, tokens: int, text: str = "") -> Reply:
    usage = Usage(input_tokens=tokens, output_tokens=1, total_tokens=tokens + 1)
    return Reply(text, calls=(call,) if call else (), usage=usage, cost=0.5, finish_reason="stop")


def test_usage_and_cost_are_those_of_all_steps(database: Any) -> None:
    Chat = tooled(database, add)
    replies = [
        reply(tool_call("add", a=1, b=1), 10),
        reply(tool_call("add", a=2, b=2), 20),
        reply(None, 30, "4"),
    ]
    record, _, _ = said(plain, Chat, replies)
    for found in (record.last_result, Chat.get_by_id(record.id).last_result):
        assert (found.usage.input_tokens, found.usage.output_tokens, found.cost) == (60, 3, 1.5)
    assert record.last_turn.usage.input_tokens == 60
    steps = [m.metadata["usage"] for m in Chat.get_context(record.id).messages if m.role == "assistant"]
    assert [step["input_tokens"] for step in steps] == [10, 20, 60]


def test_a_budget_that_halts_counts_every_step(database: Any) -> None:
    Chat = tooled(database, add, token_budget=25, on_budget="halt")
    error, _, _ = said(plain, Chat, [reply(tool_call("add", a=1, b=1), 10), reply(None, 20, "2")])
    assert isinstance(error, BudgetExceeded)
    assert error.found == "the turn has taken 32 tokens, its budget is 25"
    assert error.session.last_turn.usage.input_tokens == 30
    assert Chat.get_context(error.session.id).messages[-1].text == "2"


def test_a_budget_that_warns_is_logged_once(database: Any, caplog: pytest.LogCaptureFixture) -> None:
    Chat = tooled(database, add, token_budget=25)
    call = tool_call("add", a=1, b=1)
    said(plain, Chat, [reply(call, 10), reply(call, 10), reply(call, 10), reply(None, 1, "2")])
    assert [record.getMessage().partition("] ")[2] for record in caplog.records] == [
        "the turn has taken 22 tokens, its budget is 25"
    ]


def test_a_tool_is_told_whose_session_it_serves(database: Any) -> None:
    told: list[ToolContext] = []

    def note(text: str, context: ToolContext) -> str:
        """Note a text."""
        told.append(context)
        context.report({"percent": 50})
        return text

    Chat = tooled(database, note)
    record, _, events = said(
        streamed, Chat, [(tool_call("note", text="a"), tool_call("note", text="b")), "ok"]
    )
    turn = record.last_turn.id
    assert {(each.session_id, each.turn, each.actor) for each in told} == {(record.id, turn, None)}
    assert sorted(each.call for each in told) == [f"{turn}:0:0", f"{turn}:0:1"]
    assert len({each.idempotency_key for each in told}) == 2
    progress = [event for event in events if event.name == "tool_progress"]
    assert [each.progress for each in progress] == [{"percent": 50}] * 2


class Order(BaseModel):
    number: int
    lines: list[str]


def test_a_large_result_is_cut_for_the_model_and_stored_whole(database: Any) -> None:
    @tool(result_limit=20)
    def read() -> str:
        """Read."""
        return "é" * 100

    @tool(result_limit=lambda order: {"lines": len(order.lines)})
    def find() -> Order:
        """Find."""
        return Order(number=3, lines=["a", "b"])

    Chat = tooled(database, read, find)
    record, asked, _ = said(plain, Chat, [(tool_call("read"), tool_call("find")), "ok"])
    cut, summed = (content for role, content in shown(asked[1]) if role == "tool")
    assert cut.startswith("é" * 10 + "\n")
    assert summed == '{"lines":2}'
    whole = {text for _, text in results(Chat, record.id)}
    assert whole == {"é" * 100, '{"number":3,"lines":["a","b"]}'}


def test_a_result_that_could_not_be_stored_is_an_error(database: Any) -> None:
    def much() -> str:
        """Much."""
        return "x" * 3_000

    Chat = tooled(database, much, session={"max_input_bytes": 2_000})
    _, asked, _ = said(plain, Chat, [tool_call("much"), "ok"])
    assert shown(asked[1])[-1][1].startswith("It has run, but its result takes 3,000 bytes, and the limit")


def test_a_result_without_a_json_form_is_an_error(database: Any) -> None:
    def odd() -> object:
        """Odd."""
        return object()

    Chat = tooled(database, odd)
    _, asked, _ = said(plain, Chat, [tool_call("odd"), "ok"])
    assert shown(asked[1])[-1] == ("tool", "It has run, but a value of the type object has no JSON form")


def test_a_result_that_cannot_be_shortened_is_stored_all_the_same(database: Any) -> None:
    @tool(result_limit=lambda value: value["lines"])
    def read() -> str:
        """Read."""
        return "text"

    Chat = tooled(database, read)
    record, asked, _ = said(plain, Chat, [tool_call("read"), "ok"])
    assert shown(asked[1])[-1] == ("tool", "(It has run. Its result could not be shown: TypeError)")
    assert results(Chat, record.id) == [("completed", "text")]


def test_a_call_without_a_session_runs_tools(database: Any) -> None:
    Chat = tooled(database, add)
    with testing.script(Chat, [tool_call("add", a=1, b=2), "3"]) as asked:
        assert Chat.call("What is 1 + 2?").text == "3"
    assert shown(asked[1])[-1] == ("tool", "3")


def test_another_agent_is_a_tool() -> None:
    @agent(client="echo:", instruction="You know it all.")
    class Researcher:
        """Ask what is known."""

    @agent(client="echo:", instruction="You help.", tools=[Researcher.call])
    class Clerk:
        pass

    replies: list[Any] = [tool_call("researcher", message="Who?"), "Ann."]
    with testing.script(Clerk, replies) as asked, testing.script(Researcher, ["It was Ann."]) as researched:
        assert Clerk.call("Who was it?").text == "Ann."
    assert shown(researched[0]) == [("user", "Who?")]
    assert shown(asked[1])[-1] == ("tool", "It was Ann.")


def test_text_that_no_database_keeps_is_mended(database: Any) -> None:
    def odd() -> str:
        """Odd."""
        raise ValueError("a\0b\ud800")

    Chat = tooled(database, odd)
    calls = (tool_call("odd"), ToolCall("o\0dd", '{"a": "\\u0000"}'), ToolCall("odd", '{"\ud800": 1}'))
    record, asked, _ = said(plain, Chat, [calls, "ok"])
    assert record.last_result.text == "ok"
    assert shown(asked[1])[-3][1] == "ValueError: a\ufffdb\ufffd"


def test_the_result_is_absent_while_an_approval_is_waited_for(database: Any) -> None:
    @tool(needs_approval=True)
    def refund(order: int) -> str:
        """Refund."""
        return "done"

    Chat = tooled(database, refund)
    record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    with pytest.raises(NoResult, match="awaiting_approval, not completed"):
        record.last_result


def test_an_error_of_a_tool_is_logged_without_what_it_says(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Chat = tooled(database, broken)
    said(plain, Chat, [tool_call("broken"), "It failed."])
    (record,) = caplog.records
    assert re.fullmatch(
        r"the tool broken failed: ValueError in broken, line \d+ of test_tools.py", record.getMessage()
    )


def test_results_that_do_not_fit_into_the_session_are_errors(database: Any) -> None:
    @tool(repeat_limit=None)
    def read() -> str:
        """Read."""
        return "x" * 3_000

    Chat = tooled(database, read, session={"max_context_bytes": 10_000})
    record, _, _ = said(plain, Chat, [[tool_call("read")] * 4, "ok"])
    outcomes = [outcome for outcome, _ in results(Chat, record.id)]
    assert outcomes == ["completed", "completed", "failed", "failed"]
    assert record.continue_session("More?").last_turn.status == "completed"


def test_what_was_not_stored_of_a_turn_counts_when_it_is_run_again(database: Any) -> None:
    Chat = tooled(database, add, token_budget=100, on_budget="halt")
    call = tool_call("add", a=1, b=1)
    error, _, _ = said(plain, Chat, [reply(call, 59), reply(call, 59)])
    assert error.found == "the turn has taken 120 tokens, its budget is 100"
    for taken in (180, 240):
        error, _, _ = said(plain, Chat, [reply(None, 59, "2")], "resume_session", error.session.id)
        assert error.found == f"the turn has taken {taken} tokens, its budget is 100"
    assert error.session.last_turn.usage.input_tokens == 4 * 59


def test_the_tools_of_a_model_can_be_asked_for(database: Any) -> None:
    assert [each.name for each in info.tools(tooled(database, add, greet))] == ["add", "greet"]


@pytest.mark.parametrize("change", ["its parameters", "its name"])
def test_a_call_that_may_have_run_is_not_told_as_one_that_was_not(change: str, database: Any) -> None:
    """After a deployment in which its tool has changed."""

    def pay() -> str:
        """Pay."""
        raise testing.Crash

    def changed(order: int) -> str:
        """Pay."""
        return "paid"

    Chat = tooled(database, pay)
    with testing.clock() as clock, testing.script(Chat, [tool_call("pay"), "I see."]) as asked:
        with testing.crash_after(4):
            Chat.start_session("Hello!")
        clock.advance(31)
        options = info.agent_options(Chat)
        name = "pay" if change == "its parameters" else "refund"
        with_other_tools(options, tooled(database, tool(name=name)(changed), create=False))
        Chat.get().resume_session()
    assert shown(asked[1])[-1][1].startswith("It is not known")


def with_other_tools(options: Any, model: Any) -> None:
    object.__setattr__(options, "tools", info.tools(model))


@pytest.mark.backends("sqlite")
def test_a_result_that_would_have_ended_the_turn_is_kept_where_a_hook_fails(database: Any) -> None:
    class Hooks:
        def prepare_tool_results(self, context: Any, ran: Any) -> None:
            raise ValueError("no luck")

    def end() -> Halt:
        """End."""
        return Halt("The end.")

    Chat = tooled(database, end, add, hooks=Hooks)
    error, _, _ = said(plain, Chat, [(tool_call("end"), tool_call("add", a=1, b=1))])
    assert error.found == "prepare_tool_results raised ValueError: no luck"
    assert sorted(results(Chat, error.session.id)) == [("completed", "2"), ("completed", "The end.")]


@pytest.mark.backends("sqlite")
def test_usage_is_counted_once_over_runs_and_repeated_outputs(database: Any) -> None:
    fails = [True]

    class Hooks:
        def after_call(self, context: Any, reply: Any) -> None:
            if fails:
                fails.clear()
                raise ValueError("no luck")

    Chat = tooled(database, hooks=Hooks, output_schema=Answer)
    error, _, _ = said(plain, Chat, [reply(None, 9, "x")])
    last = reply(None, 9, '{"content": "z"}')
    with testing.clock() as clock, testing.script(Chat, [reply(None, 9, "y"), last]):
        with testing.crash_after(4):
            error.session.resume_session()
        clock.advance(31)
        record = Chat.resume_session(error.session.id)
    assert record.last_result.usage.input_tokens == 27
    assert record.last_turn.usage.input_tokens == 27
