"""What the model is shown of the history: some turns, or what a function chooses. All of it is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentsession import HookFailed, ProviderCallError, TurnFailed, info, testing
from agentsession._turn.prompt_messages import count_hidden_turns, select_window
from agentsession.context import Message
from agentsession.provider import Reply
from tests.support.models import chat_model


class Recorder:
    """Says "ok", and keeps what it was shown."""

    def __init__(self) -> None:
        self.prompts: list[list[str]] = []

    def ask(self, request: Any) -> Reply:
        self.prompts.append([shown.content for shown in request.prompt])
        return Reply("ok")


def talk(database: Any, turns: int, **session: Any) -> tuple[Any, Any, Recorder]:
    model = Recorder()
    Chat = chat_model(database, provider=model, session=session)
    record = Chat.start_session("0")
    for number in range(1, turns):
        record.continue_session(str(number))
    return Chat, record, model


def asked(prompt: list[str]) -> list[str]:
    return [text for text in prompt[1:] if text != "ok"]


@given(st.integers(1, 400), st.integers(1, 60))
def test_a_window_moves_in_steps_of_a_quarter(turns: int, history: int) -> None:
    step = max(1, history // 4)
    hidden = count_hidden_turns(turns, history)
    assert hidden % step == 0
    assert (hidden == 0) == (turns <= history)
    assert turns <= history or history - step < turns - hidden <= history
    assert count_hidden_turns(turns + 1, history) - hidden in (0, step)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 29))
def test_the_window_of_a_suffix_equals_the_window_of_the_conversation(
    turns: int, history: int, missing: int
) -> None:
    whole = [
        Message(f"{turn}:{2 * turn + n}", str(turn), role, "x")
        for turn in range(turns)
        for n, role in enumerate(("user", "assistant"))
    ]
    shown = select_window(whole, turns, history)
    assert len(shown) == 2 * (turns - count_hidden_turns(turns, history))
    part = whole[2 * min(missing, count_hidden_turns(turns, history)) :]
    assert select_window(part, turns, history) == shown


def test_the_model_receives_the_last_turns_and_all_are_kept(database: Any) -> None:
    Chat, record, model = talk(database, 12, history_turns=4)
    for turn, prompt in enumerate(model.prompts):
        first = count_hidden_turns(turn + 1, 4)
        assert asked(prompt) == [str(number) for number in range(first, turn + 1)]
    assert Chat.get_context(record.id).count == 24
    assert len(Chat.get_context(record.id).messages) == 24


def test_between_two_steps_each_prompt_is_a_prefix_of_the_next(database: Any) -> None:
    _, _, model = talk(database, 20, history_turns=8)
    moves = 0
    for before, after in zip(model.prompts, model.prompts[1:], strict=False):
        if before[1] == after[1]:
            assert after[: len(before)] == before
        else:
            moves += 1
    assert moves == 6


def test_only_the_window_is_read(database: Any) -> None:
    Chat, record, _ = talk(database, 12, history_turns=4)
    database.statements.clear()
    with testing.script(Chat, ["ok"]):
        record.continue_session("12")
    selects = [sql for sql in database.statements if sql.startswith("SELECT")]
    assert len(selects) == (1 if info.message_model(Chat) is None else 2)
    if len(selects) == 2:
        assert "OFFSET" in selects[1]


@pytest.mark.layouts("rows")
def test_a_load_with_a_key_takes_two_statements_and_finds_a_turn_before_the_window(database: Any) -> None:
    Chat, record, model = talk(database, 2, history_turns=2)
    record.continue_session("keyed", idempotency_key="Key")
    first = record.last_result.text
    for number in range(8):
        record.continue_session(f"later {number}")
    asked_before = len(model.prompts)
    database.statements.clear()
    again = Chat.continue_session(record.id, "keyed", idempotency_key="Key")
    assert (again.last_result.text, len(model.prompts)) == (first, asked_before)
    assert [sql.lstrip("(").split()[0] for sql in database.statements] == ["SELECT", "SELECT"]
    other = Chat.continue_session(record.id, "keyed", idempotency_key="key")
    assert (other.last_turn.id, len(model.prompts)) == ("key", asked_before + 1)


def test_a_pinned_instruction_is_sent_from_before_the_window(database: Any) -> None:
    _, record, _ = talk(database, 7, history_turns=2, pin_instruction=True)
    changed = Recorder()
    Later = chat_model(
        database, create=False, instruction="Changed.", provider=changed,
        session={"history_turns": 2, "pin_instruction": True},
    )  # fmt: skip
    Later.continue_session(record.id, "last")
    assert changed.prompts[-1][0] == "You help."
    assert asked(changed.prompts[-1])[-1] == "last"


def test_failed_turns_in_the_window_are_hidden(database: Any) -> None:
    Chat, record, model = talk(database, 3, history_turns=4)
    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(TurnFailed):
        record.continue_session("fails")
    record.continue_session("next")
    assert asked(model.prompts[-1]) == ["1", "2", "next"]


def test_a_resumed_turn_receives_the_same_prompt(database: Any) -> None:
    Chat, record, model = talk(database, 9, history_turns=4)
    with testing.script(Chat, [ProviderCallError("down")]) as requests, pytest.raises(TurnFailed):
        record.continue_session("fails")
    seen = [shown.content for shown in requests[-1]]
    record.resume_session()
    assert model.prompts[-1] == seen


def test_a_history_function_chooses_the_messages(database: Any) -> None:
    given_to: list[tuple[Message, ...]] = []

    def first_and_last(messages: tuple[Message, ...]) -> list[Message]:
        given_to.append(messages)
        return [*messages[:2], *messages[-1:]]

    Chat, record, model = talk(database, 5, history=first_and_last)
    assert model.prompts[-1][1:] == ["0", "ok", "4"]
    assert [len(messages) for messages in given_to] == [1, 3, 5, 7, 9]
    assert Chat.get_context(record.id).count == 10


def test_the_users_message_is_sent_whatever_the_function_chooses(database: Any) -> None:
    _, _, model = talk(database, 3, history=lambda messages: [])
    assert [prompt[1:] for prompt in model.prompts] == [["0"], ["1"], ["2"]]


def test_the_users_message_is_last_in_every_order(database: Any) -> None:
    _, _, model = talk(database, 3, history=lambda messages: messages[::-1])
    assert model.prompts[-1][-1].endswith("2")


def test_an_asynchronous_history_function_is_awaited(database: Any) -> None:
    async def last(messages: tuple[Message, ...]) -> tuple[Message, ...]:
        await asyncio.sleep(0)
        return messages[-1:]

    model = Recorder()
    Chat = chat_model(database, provider=model, session={"history": last})
    record = asyncio.run(Chat.astart_session("0"))
    asyncio.run(record.acontinue_session("1"))
    assert model.prompts[-1][1:] == ["1"]
    with pytest.raises(HookFailed, match="it is asynchronous: await an async twin"):
        record.continue_session("2")
    assert (record.last_turn.status, record.last_turn.error.type) == ("failed", "HookFailed")
    asyncio.run(record.aresume_session())
    assert model.prompts[-1][1:] == ["2"]


@pytest.mark.parametrize(
    ("history", "found"),
    [
        (lambda messages: 1 / 0, "history raised ZeroDivisionError: division by zero"),
        (lambda messages: None, "history returned a NoneType, not messages"),
        (lambda messages: ["text"], "history returned a str among its messages"),
    ],
)
@pytest.mark.backends("sqlite")
def test_a_failing_history_function_fails_the_turn_and_keeps_the_message(
    database: Any, history: Any, found: str
) -> None:
    Chat = chat_model(database, provider=Recorder(), session={"history": history})
    with pytest.raises(HookFailed, match=found) as raised:
        Chat.start_session("Words")
    key = raised.value.session.id
    assert [message.text for message in Chat.get_context(key).messages] == ["Words"]
    assert Chat.get_by_id(key).last_turn.status == "failed"
    Fixed = chat_model(database, create=False, provider=Recorder())
    assert Fixed.resume_session(key).last_result.text == "ok"


@pytest.mark.backends("sqlite")
def test_leaving_during_a_history_function_interrupts_the_turn(database: Any) -> None:
    def leaves(messages: Any) -> Any:
        raise KeyboardInterrupt

    Chat = chat_model(database, provider=Recorder(), session={"history": leaves})
    with pytest.raises(KeyboardInterrupt):
        Chat.start_session("Words")
    (record,) = Chat.select()
    assert (record.status, record.last_turn.error.type) == ("interrupted", "KeyboardInterrupt")
