"""I4, I5: writes of other processes during an unconfirmed write are not taken for its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peewee as pw
import pytest
from pydantic import BaseModel

from agentsession import (
    LeaseLost,
    SessionActions,
    SessionBusy,
    SessionNotFound,
    agent,
    agent_session,
    testing,
)
from tests.support import servers
from tests.support.layouts import layout_of, with_messages
from tests.support.lossy_databases import (
    Fault,
    Model,
    Sent,
    arrives_late,
    begun,
    is_not_stored,
    is_repeated_by_the_driver,
    is_stored,
    losing,
    under,
)
from tests.support.models import Answer, chat_model, kept, let_the_lease_run_out, texts

pytestmark = pytest.mark.matrix

BY_KEY: dict[str, Callable[[Any, Any], Any]] = {
    "start": lambda Chat, _: Chat.start_session("New", idempotency_key="k"),
    "continue": lambda Chat, key: Chat.continue_session(key, "New", idempotency_key="k"),
}


@pytest.fixture
def database(database: Any) -> Any:
    return losing(database)


def fault_with_interference(Chat: Any, act: Callable[[Any], Any], loss: Any) -> Any:
    """Return a fault during which another process acts before the session is read again."""
    other = chat_model(servers.open_database(Chat._meta.database.url), create=False)

    def fault(fault: Fault, sent: Sent) -> Any:
        try:
            return loss(fault, sent)
        finally:
            with other._meta.database.connection_context():
                act(other)

    return fault


TAKEOVERS: dict[str, tuple[Callable[[Any, Any], Any], type[Exception], list[str]]] = {
    "resumed": (lambda Chat, key: Chat.resume_session(key), LeaseLost, ["New", "You said"]),
    "continued": (lambda Chat, key: Chat.continue_session(key, "x"), LeaseLost, ["New", "x", "You said"]),
    "deleted": (lambda Chat, key: Chat.delete_by_id(key), SessionNotFound, []),
}


@pytest.mark.parametrize("how", TAKEOVERS)
def test_the_error_carries_the_reply_of_a_turn_taken_over_during_an_unconfirmed_write(
    database: Any, how: str
) -> None:
    Chat = chat_model(database, output_schema=Answer, provider=Model())
    session = begun(Chat)
    act, expected, beginnings = TAKEOVERS[how]

    def take_over(other: Any) -> None:
        let_the_lease_run_out(other, session.id)
        act(other, session.id)

    fault = Fault(2, fault_with_interference(Chat, take_over, is_not_stored))
    _, error = under(fault, database, lambda: session.continue_session("New"))
    assert type(error) is expected
    assert error.result.output == Answer(content="ok")
    stored_texts = texts(Chat, session)[2:] if beginnings else []
    assert [text[: len(each)] for text, each in zip(stored_texts, beginnings, strict=True)] == beginnings


def test_a_turn_that_others_continued_is_recognized_as_stored(database: Any) -> None:
    Chat = chat_model(database, output_schema=Answer, provider=Model())
    session = begun(Chat)
    fault = Fault(
        2, fault_with_interference(Chat, lambda other: other.continue_session(session.id, "Next"), is_stored)
    )
    record, error = under(fault, database, lambda: session.continue_session("New"))
    assert error is None
    assert record.last_result.output == Answer(content="ok")
    assert texts(Chat, session)[2:5] == ["New", '{"content":"ok"}', "Next"]
    assert record.context == kept(record)


def test_a_repeated_claim_continues_from_what_others_stored(database: Any) -> None:
    Chat = chat_model(database, provider=Model())
    session = begun(Chat)
    fault = Fault(
        1,
        fault_with_interference(
            Chat, lambda other: other.continue_session(session.id, "Next"), is_not_stored
        ),
    )
    _, error = under(fault, database, lambda: session.continue_session("New"))
    assert error is None
    assert [text for text in texts(Chat, session)[2:] if text in ("Next", "New")] == ["Next", "New"]


@pytest.mark.parametrize("still_runs", [True, False])
@pytest.mark.parametrize("action", BY_KEY)
def test_a_turn_of_another_process_with_the_same_key_is_not_run_again(
    database: Any, action: str, still_runs: bool
) -> None:
    Chat = chat_model(database, provider=(model := Model()))
    key = Chat.create().id if action == "continue" else None

    def act_first(other: Any) -> None:
        with testing.crash_after({"start": 1, "continue": 2}[action] if still_runs else 99):
            BY_KEY[action](other, key)

    fault = Fault(1, fault_with_interference(Chat, act_first, is_not_stored))
    record, error = under(fault, database, lambda: BY_KEY[action](Chat, key))
    assert (type(error) is SessionBusy) if still_runs else (error is None)
    assert (model.asked, Chat.select().count()) == (0, 1)
    if not still_runs:
        assert record.last_result.text.startswith("You said: New")


class Numbers(BaseModel):
    values: list[float]


@pytest.mark.parametrize("run", [True, False])
def test_an_input_whose_numbers_the_database_reformats_is_recognized(database: Any, run: bool) -> None:
    Chat = chat_model(database, provider=Model(), input_schema=Numbers)
    numbers = Numbers(values=[1e16, 1e23, 1e-7, -0.0, 0.1 + 0.2])
    row = Chat.create()
    for act in (
        lambda: Chat.start_session(numbers, run=run),
        lambda: row.continue_session(numbers, run=run),
    ):
        record, error = under(Fault(1, is_stored), database, act)
        assert error is None
        assert record.last_turn.status == ("completed" if run else "pending")
        assert [message.role for message in record.get_context().messages].count("user") == 1


def numbered_model(database: Any, model: Model) -> Any:
    connection = database

    @agent_session(idempotency_attribute="start_key", **layout_of(database))
    @agent(client="echo:", instruction="You help.", provider=model)
    class Numbered(SessionActions, pw.Model):
        context = pw.JSONField(null=True)
        start_key = pw.CharField(max_length=36, null=True, unique=True)

        class Meta:
            database = connection

    return with_messages(Numbered)


@pytest.mark.parametrize(("loss", "rows"), [(is_stored, 1), (is_not_stored, 0)])
def test_a_start_that_cannot_be_looked_up_is_not_repeated(database: Any, loss: Any, rows: int) -> None:
    Numbered = numbered_model(database, model := Model())
    fault = Fault(1, loss)
    _, error = under(fault, database, lambda: Numbered.start_session("New"))
    assert isinstance(error, pw.OperationalError)
    assert (len(fault.writes), Numbered.select().count(), model.asked) == (1, rows, 0)


@pytest.mark.parametrize("loss", [is_stored, is_not_stored, arrives_late, is_repeated_by_the_driver])
def test_a_start_is_looked_up_by_its_idempotency_key(database: Any, loss: Any) -> None:
    Numbered = numbered_model(database, model := Model())
    record, error = under(
        Fault(1, loss), database, lambda: Numbered.start_session("New", idempotency_key="k")
    )
    assert error is None
    assert (record.last_turn.status, model.asked, Numbered.select().count()) == ("completed", 1, 1)
    assert record.context == kept(record)


def test_a_repeated_start_takes_a_new_primary_key(database: Any) -> None:
    Numbered, other = numbered_model(database, Model()), servers.open_database(database.url)

    def insert_another_row(fault: Fault, sent: Sent) -> Any:
        sent.take_back()
        with other.connection_context():
            other.execute_sql("insert into numbered (start_key) values ('another')")
        raise fault.lost()

    fault = Fault(1, insert_another_row)
    record, error = under(fault, database, lambda: Numbered.start_session("New", idempotency_key="k"))
    assert error is None
    assert len({row.id for row in Numbered.select()} | {record.id}) == 2
