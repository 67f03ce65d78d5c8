"""I6: the same key and input are one turn, whose stored result comes back without asking the model again."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from agentsession import (
    IdempotencyMismatch,
    InputInvalid,
    OutputInvalid,
    ProviderCallError,
    ProviderFailed,
    SessionBusy,
    testing,
)
from agentsession._turn.effects import CallModel, Claim, Finish, Insert, Load, Save
from agentsession.provider import Reply
from tests.support.idempotent_models import Speaks, keyed_model
from tests.support.models import Answer, let_the_lease_run_out

pytestmark = pytest.mark.matrix


def test_a_repeated_key_returns_the_stored_result_without_a_model_call(speaker: Speaks) -> None:
    say = speaker()
    with testing.script(say.Chat, [Reply("hi", thinking="hm", cost=0.5, finish_reason="stop")]):
        first = say()
    before = say.rows()
    for _ in range(2):
        with testing.script(say.Chat, []):
            again = say()
        assert (again.id, again.last_turn.id, again.last_turn.status) == (first.id, "k", "completed")
        for name in ("text", "thinking", "usage", "cost", "model", "finish_reason", "duration"):
            assert getattr(again.last_result, name) == getattr(first.last_result, name)
    assert say.rows() == before


def test_a_failed_turn_is_run_again_by_its_key(speaker: Speaks) -> None:
    say = speaker()
    with testing.script(say.Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed):
        say()
    assert say.only().last_turn.status == "failed"
    with testing.script(say.Chat, ["up again"]) as asked:
        again = say()
    assert asked[0][-1].content == "Hello"
    assert again.last_result.text == "up again"
    assert (again.last_turn.id, again.status, again.last_turn.error) == ("k", "completed", None)
    assert say.said() == ["user", "assistant"]


FAILURES: dict[str, tuple[list[Any], type[Exception], str]] = {
    "provider": ([ProviderCallError("down for long")], ProviderFailed, "down for long"),
    "output": (["no JSON", "nor this"], OutputInvalid, "does not fit Answer"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_turn_before_later_turns_raises_its_error_again(speaker: Speaks, failure: str) -> None:
    replies, kind, words = FAILURES[failure]
    say = speaker(output_schema=Answer)
    with testing.script(say.Chat, replies), pytest.raises(kind):
        say()
    with testing.script(say.Chat, [Answer(content="fine")]):
        say.Chat.continue_session(say.only().id, "Another")
    before = say.rows()
    with testing.script(say.Chat, []), pytest.raises(kind, match=words) as raised:
        say()
    assert type(raised.value) is kind
    assert raised.value.session.id == say.only().id  # type: ignore[attr-defined]
    assert "new key" in str(raised.value)
    assert say.rows() == before


def test_an_abandoned_turn_before_later_turns_raises_turn_interrupted(speaker: Speaks) -> None:
    say = speaker()
    with testing.crash_after(1 if say.session is None else 2):
        say()
    let_the_lease_run_out(say.Chat, say.only().id)
    say.Chat.continue_session(say.only().id, "Another")
    with testing.script(say.Chat, []), pytest.raises(Exception, match="ended as interrupted") as raised:
        say()
    assert type(raised.value).__name__ == "TurnFailed"


def test_a_completed_turn_before_later_turns_returns_its_own_result(speaker: Speaks) -> None:
    say = speaker()
    with testing.script(say.Chat, [Reply("the first", cost=0.25), "the second"]):
        first = say()
        say.Chat.continue_session(first.id, "Another")
    before = say.rows()
    with testing.script(say.Chat, []):
        again = say()
    assert (again.last_result.text, again.last_result.cost) == ("the first", 0.25)
    assert (again.last_turn.id, again.last_turn.status) == ("k", "completed")
    assert say.only().last_result.text == "the second"
    assert again.context == say.only().context
    assert say.rows() == before


class WrongAtFirst:
    """A model whose first reply of each turn does not fit the schema."""

    def ask(self, request: Any) -> Reply:
        corrected = "does not fit" in request.prompt[-1].content
        return Reply('{"content":"ok"}' if corrected else "not JSON")


STEPS = {
    "start": [Insert, CallModel, Save, CallModel, Finish],
    "continue": [Load, Claim, CallModel, Save, CallModel, Finish],
}


@pytest.mark.parametrize("step", range(1, 7))
def test_a_repeat_after_a_crash_at_any_step_continues_the_same_turn(speaker: Speaks, step: int) -> None:
    say = speaker(output_schema=Answer, provider=WrongAtFirst())
    steps = STEPS["start" if say.session is None else "continue"]
    if step > len(steps):
        step = len(steps)
    with testing.crash_after(step) as performed:
        say()
        pytest.fail("the crash did not happen")
    assert [type(effect) for effect in performed] == steps[:step]
    done, began = steps[step - 1] is Finish, steps[step - 1] is not Load
    if began and not done:
        with testing.script(say.Chat, []), pytest.raises(SessionBusy, match="its lease ends in"):
            say()
        let_the_lease_run_out(say.Chat, say.only().id)
    with testing.script(say.Chat, [] if done else [Answer(content="after")]):
        again = say()
    assert again.last_result.output == Answer(content="ok" if done else "after")
    assert say.said() == ["user", "assistant"]
    with testing.script(say.Chat, []):
        assert say().last_result.output == again.last_result.output


def test_a_key_of_another_message_is_refused_and_nothing_is_stored(speaker: Speaks) -> None:
    say = speaker()
    say(run=False)

    def mismatch() -> None:
        before = say.rows()
        for run in (True, False):
            with testing.script(say.Chat, []), pytest.raises(IdempotencyMismatch, match="'k'"):
                say("Other words", run=run)
        assert say.rows() == before

    mismatch()
    say()
    mismatch()
    say.Chat.continue_session(say.only().id, "Another")
    mismatch()


class Order(BaseModel):
    count: int
    dish: dict[str, Any]


def test_the_same_input_in_another_form_is_the_same_input(speaker: Speaks) -> None:
    say = speaker(input_schema=Order | str)
    first = say(Order(count=1, dish={"a": 1, "b": 2.5}))
    with testing.script(say.Chat, []):
        assert say({"dish": {"b": 2.5, "a": 1}, "count": "1"}).id == first.id
    with pytest.raises(IdempotencyMismatch):
        say({"dish": {"b": 2.5, "a": 1}, "count": 2})


def test_a_pending_turn_is_run_by_its_key(speaker: Speaks) -> None:
    say = speaker()
    for _ in range(2):
        with testing.script(say.Chat, []):
            stored = say(run=False)
        assert (stored.status, stored.last_turn.id, stored.last_turn.status) == ("pending", "k", "pending")
    assert say.said() == ["user"]
    assert say().last_result.text.startswith("You said: Hello")
    assert say.said() == ["user", "assistant"]
    with testing.script(say.Chat, []):
        assert say(run=False).last_result.text.startswith("You said: Hello")
    assert say.only().status == "completed"


def test_a_failed_turn_becomes_pending_by_its_key(speaker: Speaks) -> None:
    say = speaker()
    with testing.script(say.Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed):
        say()
    with testing.script(say.Chat, []):
        assert say(run=False).last_turn.status == "pending"
    assert say.said() == ["user"]
    assert say.Chat.resume_session(say.only().id).last_turn.id == "k"


def test_keys_that_look_alike_are_different_keys(speaker: Speaks) -> None:
    say = speaker()
    keys = ["k", "K", "k ", " k", "ķ", "k\u0301", "k\t", "ｋ", "' or 1=1 --", "%", "k" * 255, "'\"\\$.[0]"]
    for number, key in enumerate(keys):
        say(f"words {number}", key)
    for number, key in enumerate(keys):
        with testing.script(say.Chat, []):
            found = say(f"words {number}", key)
        assert found.last_turn.id == key
        assert f"words {number}" in found.last_result.text
    assert say.Chat.select().count() == (len(keys) if say.session is None else 1)


BAD_KEYS: list[Any] = ["", "   ", "k" * 256, 7, b"k", uuid4(), ["k"], True, "k\0", "\ud800"]


def test_an_invalid_key_is_refused(speaker: Speaks) -> None:
    say = speaker()
    before = say.rows()
    for key in BAD_KEYS:
        with testing.script(say.Chat, []), pytest.raises(InputInvalid, match="idempotency_key"):
            say(key=key)
    assert say.rows() == before
    assert say(key="k" * 255).last_turn.id == "k" * 255


def test_a_repeat_refreshes_the_callers_record(database: Any) -> None:
    Chat = keyed_model(database)
    session = Chat.start_session("Hello")
    stale = Chat.get_by_id(session.id)
    session.continue_session("More", idempotency_key="k")
    stale.title = "not saved yet"
    with testing.script(Chat, []):
        assert stale.continue_session("More", idempotency_key="k") is stale
    assert (stale.context, stale.status, stale.title) == (session.context, "completed", "not saved yet")
