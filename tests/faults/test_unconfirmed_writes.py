"""I4, I10: an unconfirmed write counts if it was stored, is repeated if not, and is never stored twice.

The fault is that of a network: the server has run the statement, or has not, and the driver raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from uuid import uuid4

import peewee as pw
import pytest

from agentsession import ProviderCallError, ProviderFailed, SessionBusy, StorageFailed, testing
from tests.support.layouts import all_rows
from tests.support.lossy_databases import (
    Fault,
    Model,
    and_stays_away,
    arrives_late,
    begun,
    is_not_stored,
    is_repeated_by_the_driver,
    is_stored,
    losing,
    under,
)
from tests.support.models import Answer, chat_model, let_the_lease_run_out, stored, texts

pytestmark = pytest.mark.matrix("full")


@pytest.fixture
def database(database: Any) -> Any:
    return losing(database)


def no_session(Chat: Any) -> None:
    pass


def pending(Chat: Any) -> Any:
    return begun(Chat).continue_session("New", run=False)


def failed(Chat: Any) -> Any:
    session = begun(Chat)
    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed) as failure:
        session.continue_session("New")
    return failure.value.session


def abandoned(Chat: Any) -> Any:
    session = begun(Chat)
    with testing.crash_after(2):
        session.continue_session("Left")
    let_the_lease_run_out(Chat, session.id)
    return session


def abandoned_with_key(Chat: Any) -> Any:
    session = begun(Chat)
    with testing.crash_after(2):
        session.continue_session("New", idempotency_key="k")
    let_the_lease_run_out(Chat, session.id)
    return session


def empty_row(Chat: Any) -> Any:
    return Chat.create()


ACTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "start": (no_session, lambda Chat, _: Chat.start_session("New", attributes={"title": "new"})),
    "start by key": (no_session, lambda Chat, _: Chat.start_session("New", idempotency_key=uuid4().hex)),
    "start, run later": (no_session, lambda Chat, _: Chat.start_session("New", run=False)),
    "start, repeated output": (no_session, lambda Chat, _: Chat.start_session("Repeat")),
    "start, failing": (no_session, lambda Chat, _: Chat.start_session("Fail")),
    "continue": (begun, lambda Chat, session: session.continue_session("New")),
    "continue by key": (begun, lambda Chat, session: session.continue_session("New", idempotency_key="k")),
    "continue, run later": (begun, lambda Chat, session: session.continue_session("New", run=False)),
    "continue by key, run later": (
        abandoned_with_key,
        lambda Chat, session: session.continue_session("New", idempotency_key="k", run=False),
    ),
    "continue, repeated output": (begun, lambda Chat, session: Chat.continue_session(session.id, "Repeat")),
    "continue, failing": (begun, lambda Chat, session: session.continue_session("Fail")),
    "continue after a crash": (abandoned, lambda Chat, session: session.continue_session("New")),
    "continue an empty row": (empty_row, lambda Chat, session: session.continue_session("New")),
    "resume": (pending, lambda Chat, session: session.resume_session()),
    "resume a failed one": (failed, lambda Chat, session: Chat.resume_session(session.id)),
}
LOSSES: list[tuple[Any, Any, int | None]] = [
    (is_stored, pw.OperationalError, None),
    (is_stored, pw.InterfaceError, None),
    (is_not_stored, pw.OperationalError, None),
    (is_not_stored, pw.InterfaceError, None),
    (arrives_late, pw.OperationalError, None),
]
LOSSES_IN = {
    "document": [*LOSSES, (is_repeated_by_the_driver, pw.OperationalError, None)],
    "rows": [*LOSSES, *((is_not_stored, pw.OperationalError, statement) for statement in range(3))],
}
"""The faults of a write. In rows a write is a transaction, which fails at its end or before a statement."""


def outcome_under(Chat: Any, model: Model, action: str, fault: Fault) -> dict[str, Any]:
    """Return what an action stores, and what it returns or raises."""
    prepare, act = ACTIONS[action]
    session = prepare(Chat)
    rows, model.asked = Chat.select().count(), 0
    record, error = under(fault, Chat._meta.database, lambda: act(Chat, session))
    assert len(fault.writes) >= fault.at, "the fault was not met"
    outcome: dict[str, Any] = {"raised": repr(error)[:90], "asked": model.asked}
    outcome["new rows"] = Chat.select().count() - rows
    if record is None:
        return outcome
    row, context = Chat.get_by_id(record.id), Chat.get_context(record.id)
    outcome["messages"] = tuple((m.role, m.text, m.metadata.get("status")) for m in context.messages)
    outcome["attempts"] = tuple(len(m.metadata.get("attempts", ())) for m in context.messages)
    outcome["turn"] = (row.status, context.turn.status, context.turn.error, context.turn.claim)
    # The revision may count a write twice if it was stored twice with the same effect.
    outcome["is refreshed"] = (
        record.context | {"revision": 0} == row.context | {"revision": 0},
        record.status == row.status,
        record.updated == row.updated,
    )
    outcome["last_turn"], outcome["title"] = record.last_turn.status, record.title
    outcome["last_result"] = record.last_result.text if record.last_turn.status == "completed" else None
    return outcome


BARE = {"status_attribute": None, "updated_attribute": None}
CASES = [(action, {}) for action in ACTIONS] + [
    (action, BARE) for action in ("start", "continue", "resume", "continue, failing")
]


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize(("action", "declared"), CASES, ids=str)
def test_an_unconfirmed_write_changes_nothing(database: Any, action: str, declared: Any) -> None:
    lose_each_write(database, action, declared)


ON_SERVERS = (
    *("start by key", "start, repeated output", "continue", "continue by key, run later"),
    *("continue after a crash", "continue, failing", "resume"),
)
"""Together these actions send every statement of a write. The dialects differ only in the statements."""


@pytest.mark.backends("postgres", "mariadb")
@pytest.mark.parametrize("action", ON_SERVERS)
def test_an_unconfirmed_write_on_a_server_changes_nothing(database: Any, action: str) -> None:
    lose_each_write(database, action, {})


def lose_each_write(database: Any, action: str, declared: Any) -> None:
    model = Model()
    Chat = chat_model(database, output_schema=Answer, provider=model, session=declared)
    counted = Fault(0, is_stored)
    usual = outcome_under(Chat, model, action, counted)
    assert usual["is refreshed"] == (True, True, True)
    differences = {}
    for number in range(1, len(counted.writes) + 1):
        for loss, error, within in LOSSES_IN[database.layout]:
            outcome = outcome_under(Chat, model, action, Fault(number, loss, error, within))
            differences[number, loss.__name__, error.__name__, within] = outcome.items() - usual.items()
    assert {case: items for case, items in differences.items() if items} == {}


BEFORE = ["start", "start by key", "start, run later", "continue", "continue, run later", "resume"]


@pytest.mark.parametrize("action", BEFORE)
def test_an_outage_before_the_model_call_raises_the_error_of_the_database(database: Any, action: str) -> None:
    Chat = chat_model(database, provider=(model := Model()))
    prepare, act = ACTIONS[action]
    session = prepare(Chat)
    before, model.asked = all_rows(Chat), 0
    _, error = under(Fault(1, and_stays_away(is_not_stored)), database, lambda: act(Chat, session))
    assert isinstance(error, pw.OperationalError)
    assert (model.asked, all_rows(Chat)) == (0, before)

    _, error = under(Fault(1, and_stays_away(is_stored)), database, lambda: act(Chat, session))
    assert isinstance(error, pw.OperationalError)
    row = Chat.select().order_by(Chat.created.desc()).get()
    assert (model.asked, texts(Chat, row)[-1]) == (0, "New")
    let_the_lease_run_out(Chat, row.id)
    assert Chat.resume_session(row.id).last_turn.status == "completed"


AFTER = [
    ("start", 2, "ok"),
    ("start by key", 2, "ok"),
    ("start, repeated output", 2, None),
    ("start, repeated output", 3, "ok"),
    ("start, failing", 2, None),
    ("continue", 2, "ok"),
    ("continue, repeated output", 2, None),
    ("continue, failing", 2, None),
    ("continue an empty row", 2, "ok"),
    ("resume", 2, "ok"),
    ("resume a failed one", 2, "ok"),
]


@pytest.mark.backends("sqlite", "mariadb")
@pytest.mark.parametrize(("action", "number", "reply"), AFTER)
def test_an_outage_after_the_model_call_leaves_the_reply_in_the_error(
    database: Any, action: str, number: int, reply: str | None
) -> None:
    Chat = chat_model(database, output_schema=Answer, provider=Model())
    prepare, act = ACTIONS[action]
    session = prepare(Chat)
    record, error = under(Fault(number, and_stays_away(is_not_stored)), database, lambda: act(Chat, session))
    assert isinstance(error, StorageFailed)
    assert isinstance(error.__cause__, pw.OperationalError)
    assert (error.result and error.result.output.content) == reply
    words = texts(Chat, record.id)
    assert words[-1] in ("New", "Repeat", "Fail")
    assert Chat.get_by_id(record.id).status == record.last_turn.status == "running"
    with pytest.raises(SessionBusy):
        Chat.resume_session(record.id)
    let_the_lease_run_out(Chat, record.id)
    with testing.script(Chat, [Answer(content="later")]):
        assert Chat.resume_session(record.id).last_turn.status == "completed"
    assert texts(Chat, record.id) == [*words, '{"content":"later"}']


def test_the_error_carries_a_reply_whose_write_stays_unconfirmed(database: Any) -> None:
    Chat = chat_model(database, output_schema=Answer, provider=Model())
    for loss in (is_stored, is_repeated_by_the_driver) if database.layout == "document" else (is_stored,):
        session = begun(Chat)
        _, error = under(Fault(2, and_stays_away(loss)), database, partial(session.continue_session, "New"))
        assert isinstance(error, StorageFailed)
        assert error.result.output == Answer(content="ok")
        assert texts(Chat, session)[2:] == ["New", '{"content":"ok"}']


@contextmanager
def transaction_rolled_back(database: Any, how: str) -> Iterator[None]:
    """Begin a transaction with Peewee or by hand, and roll it back at the end."""
    if how == "atomic":
        with database.connection_context(), database.atomic() as transaction:
            yield
            transaction.rollback()
        return
    with database.connection_context(), database.manual_commit() if how == "manual" else nullcontext():
        database.execute_sql("begin")
        yield
        database.execute_sql("rollback")


@pytest.mark.parametrize("verb", ["SELECT", "INSERT", "UPDATE"])
@pytest.mark.parametrize("how", ["atomic", "manual", "by hand"])
def test_a_write_in_a_transaction_of_the_caller_is_not_repeated(database: Any, how: str, verb: str) -> None:
    Chat = chat_model(database)
    session = begun(Chat)
    act = ACTIONS["start, run later" if verb == "INSERT" else "continue, run later"][1]
    fault = Fault(1, is_not_stored, verbs=(verb,))
    with transaction_rolled_back(database, how):
        _, error = under(fault, database, lambda: act(Chat, session))
        assert isinstance(error, pw.OperationalError)
        assert len(fault.writes) == 1
    assert (Chat.select().count(), len(texts(Chat, session))) == (1, 2)


@pytest.mark.parametrize("begin", [nullcontext, pw.Database.atomic], ids=["outside", "inside"])
def test_an_existing_row_is_not_taken_for_an_unconfirmed_write(database: Any, begin: Any) -> None:
    Chat = chat_model(database)
    session = begun(Chat)
    before = stored(session)
    with database.connection_context(), pytest.raises(pw.IntegrityError), begin(database):
        Chat.start_session("New", attributes={"id": session.id}, run=False)
    assert stored(session) == before
