"""A call with equal arguments runs as often in one turn as its tool allows: once, unless it is idempotent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field, PlainValidator, SecretStr, WithJsonSchema

from agentsession import Halt, TurnFailed, testing, tool
from agentsession.provider import ToolCall
from agentsession.testing import tool_call
from tests.support.models import chat_model
from tests.support.tool_sessions import WAYS, Way, plain, results, said, shown, streamed, tooled

REPEATED = "This call was not carried out, because it repeats an earlier call of this turn"
PAY = tool_call("pay", to="Alice", euros=5)


class Bank:
    """Counts what its tool has done."""

    def __init__(self, **options: Any) -> None:
        self.paid: list[Any] = []

        @tool(**options)
        def pay(to: str, euros: int = 5) -> str:
            """Pay somebody."""
            self.paid.append((to, euros))
            return f"paid {to} {euros}"

        self.pay = pay


def outcomes(Chat: Any, session: Any) -> list[str]:
    return [outcome for outcome, _ in results(Chat, session)]


def on_sqlite(test: Any) -> Any:
    """What counts as equal does not depend on the store."""
    return pytest.mark.backends("sqlite")(pytest.mark.layouts("document")(test))


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_has_run_is_not_run_again_in_its_turn(way: Way, database: Any) -> None:
    bank = Bank()
    Chat = tooled(database, bank.pay)
    record, asked, events = said(way, Chat, [PAY, PAY, (PAY, tool_call("pay", to="Bob")), "Paid."])
    assert bank.paid == [("Alice", 5), ("Bob", 5)]
    assert sorted(outcomes(Chat, record.id)) == ["completed", "completed", "repeated", "repeated"]
    assert shown(asked[2])[-1][1].startswith(REPEATED)
    finished = [event for event in events if event.name == "tool_finished"]
    assert [each.outcome for each in finished].count("repeated") == (2 if events else 0)
    assert all(each.error.startswith(REPEATED) for each in finished if each.outcome == "repeated")


@pytest.mark.parametrize("way", WAYS)
def test_of_equal_calls_in_one_reply_the_first_runs(way: Way, database: Any) -> None:
    bank = Bank()
    Chat = tooled(database, bank.pay)
    record, asked, _ = said(way, Chat, [(PAY, PAY, PAY), "Paid."])
    assert bank.paid == [("Alice", 5)]
    told = [content for role, content in shown(asked[1]) if role == "tool"]
    assert told[0] == "paid Alice 5"
    assert [text.startswith(REPEATED) for text in told] == [False, True, True]
    assert sorted(outcomes(Chat, record.id)) == ["completed", "repeated", "repeated"]


def test_the_next_turn_may_call_it_again(database: Any) -> None:
    bank = Bank()
    Chat = tooled(database, bank.pay)
    record, _, _ = said(plain, Chat, [PAY, "Paid."])
    said(plain, Chat, [PAY, "Paid."], "continue_session", record.id, "Again, please.")
    assert len(bank.paid) == 2


@on_sqlite
@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({}, 1),
        ({"repeat_limit": 1}, 1),
        ({"repeat_limit": 2}, 2),
        ({"repeat_limit": None}, 4),
        ({"idempotent": True}, 4),
        ({"idempotent": True, "repeat_limit": 1}, 1),
    ],
)
def test_how_often_it_runs_is_the_tools_to_say(options: Any, times: int, database: Any) -> None:
    bank = Bank(**options)
    Chat = tooled(database, bank.pay)
    record, _, _ = said(plain, Chat, [(PAY, PAY), PAY, PAY, "Paid."])
    assert len(bank.paid) == times
    assert sorted(outcomes(Chat, record.id)) == ["completed"] * times + ["repeated"] * (4 - times)


@on_sqlite
def test_a_call_without_a_session_is_guarded_as_well(database: Any) -> None:
    bank = Bank()
    Chat = tooled(database, bank.pay)
    with testing.script(Chat, [(PAY, PAY), PAY, "Paid."]):
        Chat.call("Pay Alice.")
    assert bank.paid == [("Alice", 5)]


@on_sqlite
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('{"to":"Alice","euros":5}', ' { "euros" : 5, "to" : "Alice" } '),
        ('{"to":"Alice"}', '{"to":"Alice","euros":5}'),
        ('{"to":"Alice","euros":"5"}', '{"to":"Alice","euros":5.0}'),
        ('{"to":"Al\\u0069ce"}', '{"to":"Alice"}'),
    ],
)
def test_arguments_are_compared_as_the_tool_is_given_them(first: str, second: str, database: Any) -> None:
    bank = Bank()
    Chat = tooled(database, bank.pay)
    said(plain, Chat, [ToolCall("pay", first), ToolCall("pay", second), "Paid."])
    assert bank.paid == [("Alice", 5)]


class Reference:
    """Has no JSON form, and is equal to itself only."""


class Key(BaseModel):
    secret: SecretStr


def secret(secret: SecretStr) -> str:
    """Is shown as asterisks."""
    return "done"


def nested(key: Key) -> str:
    """Holds what is shown as asterisks."""
    return "done"


def opaque(
    reference: Annotated[Any, PlainValidator(lambda given: Reference()), WithJsonSchema({"type": "string"})],
) -> str:
    """Has no JSON form."""
    return "done"


def anything(value: Any) -> str:
    """Takes any value."""
    return "done"


def stamped(to: str, at: datetime = Field(default_factory=lambda: datetime.now(UTC))) -> str:  # noqa: B008
    """Is given the time."""
    return "done"


@on_sqlite
@pytest.mark.parametrize(
    ("function", "first", "second", "is_equal"),
    [
        (secret, {"secret": "a"}, {"secret": "b"}, False),
        (secret, {"secret": "a"}, {"secret": "a"}, True),
        (nested, {"key": {"secret": "a"}}, {"key": {"secret": "b"}}, False),
        (nested, {"key": {"secret": "a"}}, {"key": {"secret": "a"}}, True),
        (opaque, {"reference": "a"}, {"reference": "b"}, False),
        (opaque, {"reference": "a"}, {"reference": "a"}, True),
        (anything, {"value": True}, {"value": 1}, False),
        (anything, {"value": 10**40}, {"value": 10**40 + 1}, False),
        (anything, {"value": {"a": 1, "b": 2}}, {"value": {"b": 2, "a": 1}}, True),
        (anything, {"value": [1, 2]}, {"value": [2, 1]}, False),
        (stamped, {"to": "Alice"}, {"to": "Alice"}, True),
    ],
)
def test_values_that_json_does_not_tell_apart_are_not_equal(
    function: Callable[..., str], first: Any, second: Any, is_equal: bool, database: Any
) -> None:
    Chat = tooled(database, function)
    calls = [tool_call(function.__name__, **given) for given in (first, second)]
    record, _, _ = said(plain, Chat, [*calls, "ok"])
    assert outcomes(Chat, record.id) == ["completed", "repeated" if is_equal else "completed"]


@on_sqlite
def test_a_call_whose_tool_raised_may_be_tried_again(database: Any) -> None:
    tried: list[int] = []

    def pay(to: str) -> str:
        """Pay somebody."""
        tried.append(1)
        if len(tried) == 1:
            raise ConnectionError("the bank cannot be reached")
        return "paid"

    Chat = tooled(database, pay)
    call = tool_call("pay", to="Alice")
    record, _, _ = said(plain, Chat, [call, call, call, "Paid."])
    assert len(tried) == 2
    assert outcomes(Chat, record.id) == ["failed", "completed", "repeated"]


@on_sqlite
@pytest.mark.parametrize("ends", ["no JSON form", "too large", "no output", "too late"])
def test_a_call_that_has_run_counts_whatever_became_of_its_result(ends: str, database: Any) -> None:
    ran: list[int] = []

    @tool(timeout=0.05 if ends == "too late" else None)
    def pay() -> Any:
        """Pay."""
        ran.append(1)
        if ends == "too late":
            import time

            time.sleep(0.5)
        return {"no JSON form": object(), "too large": "x" * 5000, "no output": Halt(" ")}.get(ends, "paid")

    limits = {"max_input_bytes": 2000} if ends == "too large" else {}
    Chat = tooled(database, pay, session=limits)
    record, _, _ = said(plain, Chat, [tool_call("pay"), tool_call("pay"), "Hm."])
    assert len(ran) == 1
    assert outcomes(Chat, record.id) == ["timed_out" if ends == "too late" else "failed", "repeated"]


@on_sqlite
def test_a_result_that_would_fill_the_session_counts_as_well(database: Any) -> None:
    ran: list[int] = []

    def pay() -> str:
        """Pay."""
        ran.append(1)
        return "x" * 10_000

    Chat = tooled(database, pay, session={"max_context_bytes": 8_000})
    record, _, _ = said(plain, Chat, [tool_call("pay"), tool_call("pay"), "Hm."])
    assert len(ran) == 1
    assert outcomes(Chat, record.id) == ["failed", "repeated"]


@on_sqlite
def test_a_call_that_was_refused_does_not_count(database: Any) -> None:
    bank = Bank()
    Chat = tooled(database, bank.pay)
    record, _, _ = said(plain, Chat, [ToolCall("pay", '{"to":1}'), ToolCall("pay", '{"to":1}'), "Sorry."])
    assert outcomes(Chat, record.id) == ["failed", "failed"]


def test_a_repeated_call_asks_nobody(database: Any) -> None:
    bank = Bank(needs_approval=True)
    Chat = tooled(database, bank.pay)
    with testing.script(Chat, [(PAY, PAY), PAY, "Paid."]):
        record = Chat.start_session("Pay Alice.")
        assert record.status == "awaiting_approval"
        (approval,) = record.approvals
        assert outcomes(Chat, record.id) == ["repeated"]
        approval.approve()
        record.resume_session()
    assert record.status == "completed"
    assert bank.paid == [("Alice", 5)]
    assert outcomes(Chat, record.id) == ["repeated", "completed", "repeated"]


def test_what_a_person_has_changed_is_compared_as_it_was_run(database: Any) -> None:
    bank = Bank(needs_approval=True)
    Chat = tooled(database, bank.pay)
    with testing.script(Chat, [PAY, tool_call("pay", to="Alice", euros=3), PAY, "Paid."]):
        record = Chat.start_session("Pay Alice.")
        record.approvals[0].edit({"to": "Alice", "euros": 3})
        record.resume_session()
        assert record.status == "awaiting_approval"  # 5 euros have not been paid
        record.approvals[0].reject()
        record.resume_session()
    assert bank.paid == [("Alice", 3)]
    assert outcomes(Chat, record.id) == ["completed", "repeated", "rejected"]


def test_a_call_that_a_person_has_made_equal_runs(database: Any) -> None:
    bank = Bank(needs_approval=True)
    Chat = tooled(database, bank.pay)
    with testing.script(Chat, [(PAY, tool_call("pay", to="Bob")), "Paid."]):
        record = Chat.start_session("Pay Alice and Bob.")
        alice, bob = record.approvals
        alice.approve()
        bob.edit({"to": "Alice", "euros": 5})
        record.resume_session()
    assert bank.paid == [("Alice", 5), ("Alice", 5)]


def test_a_rejected_call_may_be_asked_for_again(database: Any) -> None:
    bank = Bank(needs_approval=True)
    Chat = tooled(database, bank.pay)
    with testing.script(Chat, [PAY, PAY, "Paid."]):
        record = Chat.start_session("Pay Alice.")
        record.approvals[0].reject("not yet")
        record.resume_session()
        record.approvals[0].approve()
        record.resume_session()
    assert bank.paid == [("Alice", 5)]
    assert outcomes(Chat, record.id) == ["rejected", "completed"]


def paying(prompt: Any) -> Any:
    """A model that asks for the same payment, twice in a reply, until it was told of six calls."""
    answers = [each for each in prompt if each.role == "tool"]
    return (PAY, PAY) if len(answers) < 6 else "Paid."


@pytest.mark.parametrize("kind", ["plain", "approved"])
def test_wherever_the_process_dies_it_is_not_run_again(kind: str, database: Any) -> None:
    bank = Bank(needs_approval=kind == "approved")
    Chat = chat_model(database, tools=[bank.pay])
    for crash in testing.every_crash():
        bank.paid.clear()
        with testing.script(Chat, paying), testing.clock() as clock:
            session = Chat.start_session("Hello", run=False)
            with crash:
                run_to_the_end(Chat, session.id)
            clock.advance(31)
            run_to_the_end(Chat, session.id)
        found = outcomes(Chat, session.id)
        assert len(bank.paid) <= 1, crash
        assert len(bank.paid) == found.count("completed") or "unknown" in found, crash
        assert len(found) == 6, crash
        assert found.count("repeated") >= 4, crash


def run_to_the_end(Chat: Any, key: Any) -> None:
    while (session := Chat.get_by_id(key)).status != "completed":
        for approval in session.approvals:
            approval.approve()
        session.resume_session()


def test_a_turn_that_failed_and_is_run_again_remembers_its_calls(database: Any) -> None:
    bank = Bank()
    Chat = tooled(database, bank.pay)
    with testing.script(Chat, [PAY, ValueError("down"), PAY, "Paid."]):
        with pytest.raises(TurnFailed) as raised:
            Chat.start_session("Pay Alice.")
        session = raised.value.session.resume_session()
    assert bank.paid == [("Alice", 5)]
    assert outcomes(Chat, session.id) == ["completed", "repeated"]


@on_sqlite
def test_a_repeated_call_is_no_error_of_its_tool(database: Any) -> None:
    bank = Bank()
    Chat = tooled(database, bank.pay, on_tool_error="halt")
    record, _, events = said(streamed, Chat, [(PAY, PAY), "Paid."])
    assert record.last_turn.status == "completed"
    assert [each.name for each in events].count("tool_started") == 1


@on_sqlite
def test_the_arguments_of_many_calls_are_each_read_a_few_times(database: Any) -> None:
    read: list[int] = []

    def pay(number: Annotated[int, AfterValidator(lambda value: read.append(1) or value)]) -> str:
        """Pay somebody."""
        return "paid"

    def calls(count: int) -> int:
        read.clear()
        Chat = tooled(database, tool(repeat_limit=2)(pay))
        said(plain, Chat, [[tool_call("pay", number=n) for n in range(count)], "ok"])
        return len(read)

    few, many = calls(10), calls(40)
    assert many <= 4 * few
