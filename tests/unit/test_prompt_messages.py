"""I7, I17: the prompt of any stored transcript is valid, and each turn's prompt is a prefix of the next."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentsession import ProviderCallError, ProviderFailed, testing, tool
from agentsession._schema import InputSchema
from agentsession._store import format
from agentsession._turn.model_io import PromptMessage, ToolCall
from agentsession._turn.prompt_messages import NOT_RUN, SILENT, UNKNOWN, build_prompt, select_visible
from agentsession._turn.tool_messages import calls_of, is_step, prompt_call_id, results_of
from agentsession.context import Context, Message
from agentsession.provider import Reply
from tests.support.models import Ask, chat_model
from tests.support.valid_prompts import assert_can_be_asked, assert_valid

TEXT = st.sampled_from(["", "  ", "a", "{{ x }}", "line\nline", "é"])
CONTENT = st.one_of(
    TEXT,
    st.lists(
        st.fixed_dictionaries({"type": st.sampled_from(["text", "thinking", "image"]), "text": TEXT}),
        max_size=2,
    ),
    st.dictionaries(st.sampled_from(["message", "city"]), TEXT, max_size=2),
)
METADATA = st.fixed_dictionaries(
    {}, optional={"status": st.sampled_from(["failed", "interrupted", "odd"]), "input_hash": st.just("x")}
)
ROLE = st.sampled_from(["user", "assistant", "system", "tool", "developer"])


ARGUMENTS = st.sampled_from(
    ["{}", '{"n":1}', "", "[1]", '{"n":', '{"n":NaN}', '{"n":1e999}', '{"n":' + "[" * 2000]
)
CALL = st.fixed_dictionaries(
    {"type": st.just("tool_call")},
    optional={"tool": st.sampled_from(["find", "", "né e?", "x" * 80]), "arguments": ARGUMENTS},
)
OPAQUE = st.fixed_dictionaries(
    {"type": st.just("opaque")},
    optional={"client": st.sampled_from(["echo:", "other:x"]), "data": st.sampled_from(['{"s":1}', 7, None])},
)
RESULT = st.fixed_dictionaries(
    {"type": st.just("tool_result")}, optional={"tool": st.just("find"), "content": TEXT, "shown": TEXT}
)
ASKED = st.fixed_dictionaries({}, optional={"status": st.sampled_from(["pending", "approved", "rejected"])})
APPROVALS = st.one_of(st.none(), st.lists(st.one_of(st.just("odd"), ASKED), max_size=2))
OUTCOME = st.sampled_from(["completed", "failed", "unknown", "rejected", 7])
PLACE = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2))


@st.composite
def transcripts(draw: Any) -> tuple[Message, ...]:
    """Messages of all kinds in any order: of the calls some have no result, some have several."""
    messages: list[Message] = []
    for position in range(draw(st.integers(0, 10))):
        turn = str(draw(st.integers(0, 3)))
        kind = draw(st.sampled_from(["message", "step", "result"]))
        role, content, metadata = draw(ROLE), draw(CONTENT), draw(METADATA)
        if kind == "step":
            role, content = "assistant", draw(steps(messages, turn))
        elif kind == "result":
            turn_, step, index = draw(PLACE)
            result = {**draw(RESULT), "call": f"{turn_}:{step}:{index}"}
            role, content, metadata = "tool", [result], {"outcome": draw(OUTCOME)}
        elif role == "user" and draw(st.booleans()):
            metadata = {**metadata, "approvals": approved(draw, turn)}
        messages.append(Message(f"{turn}:{position}", turn, role, content, metadata))
    return tuple(messages)


@st.composite
def steps(draw: Any, messages: list[Message], turn: str) -> list[dict[str, Any]]:
    number = sum(message.turn == turn and is_step(message) for message in messages)
    calls = draw(st.lists(CALL, min_size=1, max_size=3))
    parts = [{**call, "call": f"{turn}:{number}:{index}"} for index, call in enumerate(calls)]
    more = draw(st.lists(st.one_of(OPAQUE, st.just({"type": "text", "text": "Let me look."})), max_size=2))
    return [*more, *parts]


def approved(draw: Any, turn: str) -> Any:
    found = draw(APPROVALS)
    return found and [each if each == "odd" else {**each, "call": f"{turn}:0:0"} for each in found]


@given(
    transcripts(), st.sampled_from(["", " ", "You help."]), st.sampled_from([None, Ask, dict[str, str], str])
)
def test_the_view_of_any_transcript_with_a_new_message_is_valid(
    stored: tuple[Message, ...], system: str, schema: Any
) -> None:
    for length in range(len(stored) + 1):
        messages = (*stored[:length], Message("new:0", "new", "user", "What now?"))
        shown = build_prompt(select_visible(messages), system, InputSchema(schema), "echo:")
        assert_can_be_asked(shown)
        assert_valid(build_prompt(stored[:length], system, InputSchema(schema), "echo:"))
        assert shown[-1].role == "user"
        assert shown[-1].content.endswith("What now?")
        assert (shown[0].role == "system") == bool(system.strip())


@given(transcripts(), st.sampled_from(["echo:", "new:x"]))
def test_a_step_is_answered_by_the_results_that_are_stored(stored: tuple[Message, ...], client: str) -> None:
    """The last one, where there are several; and is shown what is opaque only by its own client."""
    messages = (*stored, Message("new:0", "new", "user", "?"))
    shown = build_prompt(select_visible(messages), "", InputSchema(), client)
    answers = {each.call: each.content for each in shown if each.role == "tool"}
    failed = {message.turn for message in stored if message.metadata.get("status") == "failed"}
    for message in select_visible(messages):
        if not is_step(message):
            continue
        for call in calls_of(message):
            (*_, result) = [
                None,
                *(each for each in select_visible(messages) if call.key in results_of([each])),
            ]
            answer = answers.pop(prompt_call_id(call.key))
            if result is None:
                assert answer in (UNKNOWN, NOT_RUN)
            elif message.turn not in failed:
                (part,) = result.parts("tool_result")
                text = part.get("shown", part.get("content", ""))
                assert answer == (text if text.strip() else SILENT)
    assert answers == {}
    assert {each.opaque for each in shown} <= ({"", '{"s":1}'} if client == "echo:" else {""})


@given(transcripts())
def test_nothing_that_is_shown_is_hidden_by_a_later_message(stored: tuple[Message, ...]) -> None:
    """Every visible text of a completed turn is in the prompt."""
    failed = {
        m.turn for m in stored if m.role == "user" and m.metadata.get("status") in ("failed", "interrupted")
    }
    messages = (*stored, Message("new:0", "new", "user", "?"))
    all_shown = "\n".join(
        shown.content for shown in build_prompt(select_visible(messages), "", InputSchema())
    )
    for message in stored:
        if message.role == "assistant" and message.turn not in failed:
            assert message.text.strip() in all_shown


def test_failed_and_wordless_interrupted_turns_are_hidden_a_partial_reply_is_shown() -> None:
    messages = (
        Message("1:0", "1", "user", "failed", {"status": "failed"}),
        Message("1:1", "1", "assistant", "partial", {"status": "failed"}),
        Message("2:0", "2", "user", "stopped", {"status": "interrupted"}),
        Message("3:0", "3", "user", "cut", {"status": "interrupted"}),
        Message("3:1", "3", "assistant", "half a", {"status": "interrupted"}),
        Message("4:0", "4", "user", "now"),
    )
    assert build_prompt(select_visible(messages), "", InputSchema()) == (
        PromptMessage("user", "cut"),
        PromptMessage("assistant", "half a"),
        PromptMessage("user", "now"),
    )


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("Hello", "Hello"),
        ({"message": "Hello"}, "Hello"),
        ({"city": "Rome"}, '{"city":"Rome"}'),
        ({"b": 1, "message": "x", "a": {"d": 1, "c": 2}}, '{"message":"x","a":{"c":2,"d":1},"b":1}'),
    ],
)
def test_one_text_field_is_shown_as_its_text_all_else_as_compact_json(stored: Any, said: str) -> None:
    assert InputSchema(Ask).show(stored) == said


def test_json_is_shown_in_the_schemas_field_order_whatever_the_database_did() -> None:
    from pydantic import BaseModel

    class Inner(BaseModel):
        zeta: int
        alpha: int

    class Order(BaseModel):
        name: str
        items: list[Inner]
        extra: dict[str, Inner] = {}
        maybe: Inner | None = None

    value = {
        "maybe": {"alpha": 2, "zeta": 1},
        "extra": {"y": {"alpha": 4, "zeta": 3}, "x": {"alpha": 4, "zeta": 3}},
        "items": [{"alpha": 2, "zeta": 1}],
        "name": "n",
    }
    assert InputSchema(Order).show(value) == (
        '{"name":"n","items":[{"zeta":1,"alpha":2}],'
        '"extra":{"x":{"zeta":3,"alpha":4},"y":{"zeta":3,"alpha":4}},"maybe":{"zeta":1,"alpha":2}}'
    )


STEP = st.sampled_from(["reply", "fail", "thinking", "pending"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(STEP, st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip)))
)
def test_each_view_begins_with_the_view_of_the_completed_turn_before_it(database: Any, steps: Any) -> None:
    from agentsession._json_values import storable_text

    Chat = chat_model(database, instruction="You help {{ name }}.")
    with testing.script(Chat, ["hi"]) as asked:
        session = Chat.start_session("Hello", instruction_args={"name": "<Ada> & co"})
    last_complete = asked[0]
    for step, words, answer in steps:
        reply = {
            "reply": answer,
            "thinking": Reply(answer, thinking="hm"),
            "fail": ProviderCallError("down"),
            "pending": answer,
        }[step]
        with testing.script(Chat, [reply]) as asked:
            try:
                Chat.continue_session(session.id, storable_text(words), run=step != "pending")
                if step == "pending":
                    Chat.resume_session(session.id)
            except ProviderFailed:
                assert step == "fail"
                continue
        assert asked[0][: len(last_complete)] == last_complete
        last_complete = asked[0]


def find(n: int, word: str = "") -> dict[str, Any]:
    """Find something."""
    return {"word": word, "n": n, "b": [n, 1.5, {"z": 1, "a": None}]}


def broken(n: int) -> None:
    """Fails."""
    raise ValueError(n)


@tool(result_limit=5)
def talk(n: int) -> str:
    """Says more than anybody wants to know."""
    return "é" * n


CALLS = st.builds(
    ToolCall,
    st.sampled_from(["find", "find", "broken", "talk", "no such"]),
    st.sampled_from(['{"n":12}', '{ "word":"x", "n": 3 }', "", '{"n":"x"}', '{"n":1e400}', '{"z":1,"a":2}']),
)
ASKING = st.builds(
    Reply,
    st.sampled_from(["", "Let me look."]),
    st.sampled_from(["", "hm"]),
    st.lists(CALLS, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["", '{"z":1,"a":2}']),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ASKING, max_size=3), min_size=2, max_size=4))
def test_each_question_of_a_turn_with_tools_begins_what_is_asked_next(database: Any, turns: Any) -> None:
    """Each time the session is read anew from the database."""
    Chat = chat_model(database, tools=[find, broken, talk])
    session = Chat.start_session("Hello", run=False)
    before: tuple[PromptMessage, ...] = ()
    for number, replies in enumerate(turns):
        with testing.script(Chat, [*replies, f"answer {number}"]) as asked:
            if number == 0:
                Chat.resume_session(session.id)
            else:
                Chat.continue_session(session.id, f"words {number}")
        for shown in asked:
            assert_can_be_asked(shown)
            assert shown[: len(before)] == before
            before = shown


def test_a_view_survives_a_database_that_reorders_keys() -> None:
    """As PostgreSQL's jsonb does."""
    from pydantic import BaseModel

    class Trip(BaseModel):
        to: str
        by: str

    schema = InputSchema(Trip)
    content = schema.accept({"to": "Rome", "by": "train"})
    context = Context(messages=(Message("1:0", "1", "user", content),))
    reordered = json.loads(json.dumps(msgspec.to_builtins(context), sort_keys=True))
    again = format.convert(reordered, Context, "test")
    assert build_prompt(again.messages, "x", schema) == build_prompt(context.messages, "x", schema)
    assert build_prompt(context.messages, "x", schema)[-1].content == '{"to":"Rome","by":"train"}'
