"""I1, I4: the message is committed before the model call, and a crash after any step loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentsession import InputInvalid, SessionBusy, TurnError, testing
from agentsession._turn.effects import CallModel, Claim, Finish, Insert, Load, Save
from agentsession.provider import Reply
from tests.support.models import Answer, chat_model, let_the_lease_run_out, open_database, stored, texts

pytestmark = pytest.mark.matrix


def test_the_message_is_committed_before_the_model_call(database: Any) -> None:
    seen: list[list[str]] = []

    class ReadsTheSession:
        def ask(self, request: Any) -> Reply:
            other = chat_model(open_database(database.url), create=False)
            with other._meta.database.connection_context():
                row = other.get()
                seen.append([stored(row)["messages"][-1]["content"], row.status])
            return Reply("ok")

    Chat = chat_model(database, provider=ReadsTheSession())
    Chat.start_session("One").continue_session("Two")
    assert seen == [["One", "running"], ["Two", "running"]]


class UnfitAtFirst:
    """A model whose first reply of each turn does not fit the schema."""

    def ask(self, request: Any) -> Reply:
        corrected = "does not fit" in request.prompt[-1].content
        return Reply('{"content":"ok"}' if corrected else "not JSON")


def start(Chat: Any, session: Any) -> Any:
    return Chat.start_session("New", attributes={"title": "new"})


def continue_(Chat: Any, session: Any) -> Any:
    return Chat.continue_session(session.id, "New")


def resume(Chat: Any, session: Any) -> Any:
    return Chat.resume_session(session.id)


ACTIONS: dict[str, tuple[Callable[[Any, Any], Any], list[type]]] = {
    "start": (start, [Insert, CallModel, Save, CallModel, Finish]),
    "continue": (continue_, [Load, Claim, CallModel, Save, CallModel, Finish]),
    "resume": (resume, [Load, Claim, CallModel, Save, CallModel, Finish]),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_turn_consists_of_these_effects(database: Any, action: str) -> None:
    Chat, session = session_before(database, action)
    with testing.crash_after(99) as performed:
        ACTIONS[action][0](Chat, session)
    assert [type(effect) for effect in performed] == ACTIONS[action][1]


CASES = [(action, step) for action, (_, effects) in ACTIONS.items() for step in range(1, len(effects) + 1)]


@pytest.mark.parametrize(("action", "step"), CASES)
@pytest.mark.parametrize("then", ["continue", "resume"])
def test_a_crash_after_any_step_loses_no_message_and_the_next_call_works(
    database: Any, action: str, step: int, then: str
) -> None:
    Chat, session = session_before(database, action)
    act, effects = ACTIONS[action]
    with testing.crash_after(step):
        act(Chat, session)
        pytest.fail("the crash did not happen")
    with database.connection_context():
        key = (session if action != "start" else Chat.get(Chat.title == "new")).id
    before = Chat.get_context(key)
    if effects[step - 1] in (Insert, Claim, CallModel, Save):
        with pytest.raises(SessionBusy, match="lease ends in"):
            Chat.continue_session(key, "Too early")
        assert Chat.get_context(key) == before
        let_the_lease_run_out(Chat, key)

    finished = effects[step - 1] is Finish
    began = finished or effects[step - 1] is not Load
    with testing.script(Chat, [Answer(content="after")]) as prompts:
        if then == "resume" and not finished and (began or action == "resume"):
            after = Chat.resume_session(key)
        else:
            if action == "resume" and not began:
                with pytest.raises(SessionBusy):
                    Chat.continue_session(key, "After")
                Chat.resume_session(key)
            else:
                Chat.continue_session(key, "After")
            after = Chat.get_by_id(key)
    assert after.last_result.output == Answer(content="after")
    assert after.status == after.last_turn.status == "completed"
    stored_texts = texts(Chat, key)
    assert stored_texts[: len(before.messages)] == [message.text for message in before.messages]
    if began:
        assert "New" in stored_texts
    assert is_valid_prompt(prompts[0])


def session_before(database: Any, action: str) -> tuple[Any, Any]:
    """A model with a short lease, and a session on which the action can be called."""
    Chat = chat_model(database, output_schema=Answer, provider=UnfitAtFirst())
    session = None
    if action != "start":
        session = Chat.start_session("First")
    if action == "resume":
        session.continue_session("New", run=False)
    return Chat, session


def is_valid_prompt(prompt: Any) -> bool:
    roles = [message.role for message in prompt]
    return (
        roles == ["system", *(["user", "assistant"] * len(roles))[: len(roles) - 1]] and roles[-1] == "user"
    )


def test_an_abandoned_turn_is_closed_as_interrupted_and_hidden(database: Any) -> None:
    Chat = chat_model(database)
    session = Chat.start_session("One")
    with testing.crash_after(2):
        session.continue_session("Lost?")
    let_the_lease_run_out(Chat, session.id)
    with testing.script(Chat, ["ok"]) as prompts:
        Chat.continue_session(session.id, "Two")
    assert "Lost?" not in [message.content for message in prompts[0]]
    lost = Chat.get_context(session).messages[2]
    assert (lost.text, lost.metadata["status"], lost.metadata["error"]["type"]) == (
        "Lost?",
        "interrupted",
        "LeaseExpired",
    )


def test_invalid_input_does_not_change_an_abandoned_turn(database: Any) -> None:
    Chat = chat_model(database)
    with testing.crash_after(1):
        Chat.start_session("One")
    (row,) = Chat.select()
    let_the_lease_run_out(Chat, row.id)
    before = stored(row)
    with pytest.raises(InputInvalid):
        Chat.continue_session(row.id, {"wrong": 1})
    assert stored(row) == before


@pytest.mark.parametrize("exit_type", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_exit_exception_during_a_model_call_interrupts_the_turn(database: Any, exit_type: type) -> None:
    Chat = chat_model(database)
    session = Chat.start_session("One")
    with testing.script(Chat, [exit_type()]), pytest.raises(exit_type):
        session.continue_session("Two")
    selected = Chat.get_by_id(session.id)
    assert (selected.status, selected.last_turn.status) == ("interrupted", "interrupted")
    assert selected.last_turn.claim is None
    assert selected.last_turn.error == TurnError(exit_type.__name__, "the caller stopped the turn")
    with testing.script(Chat, ["ok"]) as prompts:
        selected.resume_session()
    assert prompts[0][-1].content == "Two"


def test_the_next_call_recovers_from_an_exit_exception_at_any_other_moment(database: Any) -> None:
    Chat = chat_model(database)
    session = Chat.start_session("One")

    class Exits:
        def prepare(self) -> None:
            raise KeyboardInterrupt

        def ask(self, request: Any) -> Reply:
            return Reply("never")

    with pytest.raises(KeyboardInterrupt):
        chat_model(database, provider=Exits()).continue_session(session.id, "Two")
    assert texts(Chat, session)[2:] == []
    assert session.continue_session("Three").last_turn.status == "completed"
