"""I7, I17: the view of any stored transcript is valid, and each turn's view is a prefix of the next."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentsession import ProviderError, ProviderFailed, testing
from agentsession.context import Context, Message
from agentsession.schema import InputSchema
from agentsession.store import format
from agentsession.turn.effects import Shown, View
from agentsession.turn.view import view, visible
from tests.models import Ask, chat_model

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


@st.composite
def transcripts(draw: Any) -> tuple[Message, ...]:
    messages = draw(
        st.lists(st.tuples(ROLE, CONTENT, METADATA, st.integers(0, 3)), max_size=8),
    )
    return tuple(
        Message(f"{turn}:{position}", str(turn), role, content, metadata)
        for position, (role, content, metadata, turn) in enumerate(messages)
    )


def assert_valid(shown: View) -> None:
    body = shown[1:] if shown and shown[0].role == "system" else shown
    assert [message.role for message in body] == (["user", "assistant"] * len(body))[: len(body)]
    assert all(message.content.strip() for message in shown)


@given(
    transcripts(), st.sampled_from(["", " ", "You help."]), st.sampled_from([None, Ask, dict[str, str], str])
)
def test_the_view_of_any_transcript_with_a_new_message_is_valid(
    stored: tuple[Message, ...], system: str, schema: Any
) -> None:
    for length in range(len(stored) + 1):
        messages = (*stored[:length], Message("new:0", "new", "user", "What now?"))
        shown = view(visible(messages), system, InputSchema(schema))
        assert_valid(shown)
        assert shown[-1].role == "user"
        assert shown[-1].content.endswith("What now?")
        assert (shown[0].role == "system") == bool(system.strip())


@given(transcripts())
def test_nothing_that_is_shown_is_hidden_by_a_later_message(stored: tuple[Message, ...]) -> None:
    """Every visible text of a completed turn is in the view."""
    failed = {
        m.turn for m in stored if m.role == "user" and m.metadata.get("status") in ("failed", "interrupted")
    }
    messages = (*stored, Message("new:0", "new", "user", "?"))
    all_shown = "\n".join(shown.content for shown in view(visible(messages), "", InputSchema()))
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
    assert view(visible(messages), "", InputSchema()) == (
        Shown("user", "cut"),
        Shown("assistant", "half a"),
        Shown("user", "now"),
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
    from agentsession.json_values import storable_text
    from agentsession.provider import Reply

    Chat = chat_model(database, instruction="You help {{ name }}.")
    with testing.script(Chat, ["hi"]) as asked:
        session = Chat.start_session("Hello", instruction_args={"name": "<Ada> & co"})
    last_complete = asked[0]
    for step, words, answer in steps:
        reply = {
            "reply": answer,
            "thinking": Reply(answer, thinking="hm"),
            "fail": ProviderError("down"),
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
    assert view(again.messages, "x", schema) == view(context.messages, "x", schema)
    assert view(context.messages, "x", schema)[-1].content == '{"to":"Rome","by":"train"}'
