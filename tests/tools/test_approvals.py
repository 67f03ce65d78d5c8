"""A call that somebody has to approve: the turn stops, and goes on once all are decided, in any process."""

from __future__ import annotations

import asyncio
import datetime
import threading
import time
from typing import Annotated, Any

import peewee as pw
import pytest
from pydantic import AfterValidator, SecretStr

from agentsession import (
    ApprovalNeeded,
    HookFailed,
    InputInvalid,
    NothingToApprove,
    SessionBusy,
    SessionNotFound,
    ToolFailed,
    _clock,
    actions,
    testing,
    tool,
)
from agentsession.provider import ToolCall
from agentsession.testing import tool_call
from tests.support.models import stored
from tests.support.owned_models import owned
from tests.support.tool_sessions import WAYS, Way, astreamed, plain, results, said, shown, streamed, tooled


def louder(text: str) -> str:
    return f"{text}!"


class Shop:
    """Its tools, and what they have done."""

    def __init__(self) -> None:
        self.refunds: list[tuple[int, str]] = []
        self.looked = 0

    @tool(needs_approval=True)
    def refund(self, order: int, reason: str = "") -> str:
        """Refund an order."""
        self.refunds.append((order, reason))
        return f"refunded {order}"

    def look(self) -> str:
        """Look."""
        self.looked += 1
        return "seen"


def a_shop(database: Any, **options: Any) -> tuple[Shop, Any]:
    shop = Shop()
    return shop, tooled(database, shop.refund, shop.look, **options)


STOPS = [("One moment. ", tool_call("look"), tool_call("refund", order=1), tool_call("refund", order=2))]


@pytest.mark.parametrize("way", WAYS)
def test_a_turn_stops_and_goes_on_once_all_is_decided(way: Way, database: Any) -> None:
    shop, Chat = a_shop(database)
    record, _, events = said(way, Chat, STOPS)
    assert (record.last_turn.status, record.status) == ("awaiting_approval", "awaiting_approval")
    assert (shop.refunds, shop.looked) == ([], 1)
    if events:
        assert [each.arguments for each in events[-2:] if isinstance(each, ApprovalNeeded)] == [
            {"order": 1, "reason": ""},
            {"order": 2, "reason": ""},
        ]
    first, second = Chat.get_by_id(record.id).approvals
    assert (first.tool, first.arguments) == ("refund", {"order": 1, "reason": ""})
    first.approve(by="ann")
    (left,) = actions.approvals(Chat, record.id)
    assert left.call == second.call
    second.reject("Too much.", by="bob")
    assert actions.approvals(Chat, record.id) == []
    record, asked, _ = said(way, Chat, ["Done."], "resume_session", record.id)
    assert record.last_result.text == "Done."
    assert shop.refunds == [(1, "")]
    assert [content for role, content in shown(asked[0]) if role == "tool"] == [
        "seen",
        "refunded 1",
        "The call was rejected, and not carried out: Too much.",
    ]
    decided = [m.metadata["approval"] for m in record.get_context().messages if "approval" in m.metadata]
    assert decided == [
        {"status": "rejected", "by": "bob", "reason": "Too much."},
        {"status": "approved", "by": "ann"},
    ]


def test_nothing_else_is_said_meanwhile(database: Any) -> None:
    _, Chat = a_shop(database)
    record, _, _ = said(plain, Chat, STOPS)
    before = stored(record)
    for act in (lambda: Chat.continue_session(record.id, "Well?"), lambda: Chat.resume_session(record.id)):
        with pytest.raises(SessionBusy, match=r"waits for the approval of refund \(.*:0:1\), refund") as busy:
            act()
        assert busy.value.status == "awaiting_approval"
        assert "session.approvals" in busy.value.fix
    assert stored(record) == before


def test_arguments_may_be_edited_and_the_model_is_told(database: Any) -> None:
    shop, Chat = a_shop(database)
    record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    (approval,) = record.approvals
    for unfit in ({"order": "many"}, {"number": 1}, {"order": float("nan")}, {"order": object()}):
        with pytest.raises(InputInvalid, match="the arguments do not fit refund"):
            approval.edit(unfit)
    approval.edit({"order": 7, "reason": "fair"}, by="ann")
    record, asked, _ = said(plain, Chat, ["Done."], "resume_session", record.id)
    assert shop.refunds == [(7, "fair")]
    told = '(The call was approved with other arguments: {"order":7,"reason":"fair"})\nrefunded 7'
    assert shown(asked[0])[-1] == ("tool", told)
    assert results(Chat, record.id) == [("completed", "refunded 7")]
    call = record.get_context().messages[1].parts("tool_call")[0]
    assert call["arguments"] == '{"order":1}'


def test_a_decision_has_to_be_storable(database: Any) -> None:
    @tool(needs_approval=True)
    def refund(order: int, amount: float | None = None, note: str = "") -> str:
        """Refund an order."""
        return "done"

    Chat = tooled(database, refund, session={"max_input_bytes": 1_000})
    record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    (approval,) = record.approvals
    for unfit in ({"order": 1, "amount": float("nan")}, {"order": 1, "note": "a\0b"}):
        with pytest.raises(InputInvalid, match="the arguments do not fit refund"):
            approval.edit(unfit)
    for decide in (
        lambda: approval.reject("x" * 1_000),
        lambda: approval.edit({"order": 1, "note": "x" * 1_000}),
    ):
        with pytest.raises(InputInvalid, match=r"the decision takes 1,\d+ bytes, the limit is 1,000"):
            decide()
    assert actions.approvals(Chat, record.id) == [approval]


def test_a_call_is_decided_once(database: Any) -> None:
    _, Chat = a_shop(database)
    record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    (approval,) = actions.approvals(Chat, record.id)
    approval.approve(by="ann")
    approval.approve(by="ann")
    with pytest.raises(NothingToApprove, match="the call of refund was approved before by ann"):
        approval.reject()
    said(plain, Chat, ["Done."], "resume_session", record.id)
    with pytest.raises(NothingToApprove, match="no call of the latest turn"):
        approval.reject()


def test_of_two_who_decide_at_once_one_is_told(database: Any) -> None:
    _, Chat = a_shop(database)
    record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    (approval,) = actions.approvals(Chat, record.id)
    gate = threading.Barrier(6)
    told: list[str] = []

    def decide(number: int) -> None:
        gate.wait(20)
        try:
            approval.approve(by=f"{number}")
        except NothingToApprove:
            told.append("late")
        else:
            told.append(f"{number}")

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (winner,) = [each for each in told if each != "late"]
    assert len(told) == 6
    assert stored(record)["turn"]["approvals"][0]["by"] == winner


def test_all_of_it_on_a_loop(database: Any) -> None:
    shop, Chat = a_shop(database)

    async def decide() -> Any:
        with testing.script(Chat, [*STOPS, "Done."]):
            record = await Chat.astart_session("Hello!")
            first, second = await actions.aapprovals(Chat, record.id)
            await first.aedit({"order": 5})
            await second.areject()
            return await Chat.aresume_session(record)

    record = asyncio.run(decide())
    assert (record.last_result.text, shop.refunds, record.approvals) == ("Done.", [(5, "")], [])


def test_a_decision_is_part_of_the_callers_transaction(database: Any) -> None:
    _, Chat = a_shop(database)
    record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    with database.connection_context():
        with database.atomic() as transaction:
            actions.approvals(Chat, record.id)[0].approve()
            transaction.rollback()
        assert len(actions.approvals(Chat, record.id)) == 1


def test_what_nobody_decides_in_time_is_rejected(database: Any, at: _clock.FakeClock) -> None:
    shop, Chat = a_shop(database, approval_timeout=60.0)
    record, _, _ = said(plain, Chat, STOPS)
    first, second = actions.approvals(Chat, record.id)
    first.approve()
    at.advance(59)
    assert len(Chat.get_by_id(record.id).approvals) == 1
    at.advance(2)
    assert Chat.get_by_id(record.id).approvals == actions.approvals(Chat, record.id) == []
    with pytest.raises(
        NothingToApprove, match="the time in which the call of refund could be approved is over"
    ):
        second.approve()
    record, asked, _ = said(plain, Chat, ["Done."], "resume_session", record.id)
    assert shop.refunds == [(1, "")]
    late = "The call was rejected, and not carried out: nobody has approved it in time"
    assert shown(asked[0])[-1] == ("tool", late)


def test_a_turn_whose_time_for_an_approval_is_over_stands_in_nobodys_way(
    database: Any, at: _clock.FakeClock
) -> None:
    shop, Chat = a_shop(database, approval_timeout=60.0)
    record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    at.advance(61)
    record, asked, _ = said(plain, Chat, ["Yes?"], "continue_session", record.id, "Hello?")
    assert shop.refunds == []
    assert shown(asked[0]) == [
        ("user", "Hello!"),
        ("assistant", ""),
        ("tool", "This call was not carried out."),
        ("assistant", "(This was not answered.)"),
        ("user", "Hello?"),
    ]
    opening = record.get_context().messages[0]
    assert (opening.metadata["status"], opening.metadata["error"]["type"]) == (
        "interrupted",
        "ApprovalOverdue",
    )
    assert opening.metadata["approvals"][0]["status"] == "rejected"


def test_a_turn_that_waits_may_be_cancelled_and_run_again(database: Any) -> None:
    shop, Chat = a_shop(database)
    record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    (approval,) = record.approvals
    assert Chat.cancel_session(record.id).last_turn.status == "interrupted"
    with pytest.raises(NothingToApprove, match="the turn of this call is interrupted"):
        approval.approve()
    record, _, _ = said(plain, Chat, [], "resume_session", record.id)
    assert record.last_turn.status == "awaiting_approval"
    record.approvals[0].approve()
    record, _, _ = said(plain, Chat, ["Done."], "resume_session", record.id)
    assert shop.refunds == [(1, "")]


def test_a_predicate_decides_which_calls_need_an_approval(database: Any) -> None:
    seen: list[Any] = []

    def is_large(arguments: dict[str, Any]) -> bool:
        seen.append(arguments)
        return bool(arguments["order"] > 10)

    @tool(needs_approval=is_large)
    def refund(order: int) -> str:
        """Refund an order."""
        return f"refunded {order}"

    Chat = tooled(database, refund)
    record, _, _ = said(plain, Chat, [(tool_call("refund", order=1), tool_call("refund", order=11))])
    assert [each.arguments for each in record.approvals] == [{"order": 11}]
    assert results(Chat, record.id) == [("completed", "refunded 1")]
    assert seen == [{"order": 1}, {"order": 11}]


@pytest.mark.parametrize(
    ("predicate", "found"),
    [
        (lambda arguments: arguments["amount"] > 1, "needs_approval of refund raised KeyError: 'amount'"),
        (lambda arguments: None, "needs_approval of refund returned NoneType, not bool"),
    ],
)
def test_a_predicate_that_fails_fails_the_turn(predicate: Any, found: str, database: Any) -> None:
    ran: list[int] = []

    @tool(needs_approval=predicate)
    def refund(order: int) -> str:
        """Refund an order."""
        ran.append(order)
        return "done"

    Chat = tooled(database, refund)
    error, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    assert isinstance(error, HookFailed)
    assert error.found == found
    assert ran == []


@pytest.mark.parametrize("way", [streamed, astreamed])
def test_a_repeated_key_tells_again_what_is_waited_for(way: Way, database: Any) -> None:
    shop, Chat = a_shop(database)
    with testing.script(Chat, [tool_call("refund", order=1), "Done."]):
        first = Chat.start_session("Hello!", idempotency_key="k")
        with Chat.stream_start_session("Hello!", idempotency_key="k") as again:
            assert [event.name for event in again] == ["approval_needed"]
        assert Chat.start_session("Hello!", idempotency_key="k").last_turn.status == "awaiting_approval"
        first.approvals[0].approve()
        assert Chat.start_session("Hello!", idempotency_key="k").last_result.text == "Done."
    assert shop.refunds == [(1, "")]


def test_a_call_without_a_session_can_wait_for_nobody(database: Any) -> None:
    shop, Chat = a_shop(database)
    with testing.script(Chat, [tool_call("refund", order=1)]):
        with pytest.raises(ToolFailed, match="a call without a session cannot wait for a decision"):
            Chat.call("Hello!")
    assert shop.refunds == []


def test_only_the_owner_sees_what_waits(database: Any) -> None:
    shop = Shop()
    Owned = owned(database, pw.CharField(), tools=[shop.refund])
    with testing.script(Owned, [tool_call("refund", order=1), "Done."]):
        record = Owned.start_session("Hello!", actor="ann")
        with pytest.raises(SessionNotFound):
            actions.approvals(Owned, record.id, actor="bob")
        with pytest.raises(InputInvalid):
            actions.approvals(Owned, record.id)
        record.approvals[0].approve(by="ann")
        Owned.resume_session(record.id, actor="ann")
    assert shop.refunds == [(1, "")]


def test_a_call_that_was_run_without_an_approval_is_not_run_again_with_one(database: Any) -> None:
    """What needs an approval is decided before the call is stored, and once."""
    ran: list[int] = []
    needs = [False]

    @tool(needs_approval=lambda arguments: needs[0])
    def refund(order: int) -> str:
        """Refund an order."""
        ran.append(order)
        return "done"

    Chat = tooled(database, refund)
    with testing.clock() as clock_, testing.script(Chat, [tool_call("refund", order=1), "ok"]) as asked:
        with testing.crash_after(4):
            Chat.start_session("Hello!")
        assert ran == [1]
        needs[0] = True
        clock_.advance(31)
        record = Chat.get().resume_session()
    assert (record.last_turn.status, ran) == ("completed", [1])
    assert shown(asked[1])[-1][1].startswith("It is not known")


def test_a_predicate_is_given_what_the_tool_is_given(database: Any) -> None:
    """Neither another form of a number nor one that is left out gets round it."""

    @tool(needs_approval=lambda arguments: arguments["euros"] > 20)
    def refund(order: int, euros: int = 50) -> str:
        """Refund an order."""
        return f"refunded {euros}"

    Chat = tooled(database, refund)
    calls = (
        ToolCall("refund", '{"order": 1, "euros": "39"}'),
        ToolCall("refund", '{"order": 2}'),
        ToolCall("refund", '{"order": 3, "euros": "5"}'),
    )
    record, _, _ = said(plain, Chat, [calls])
    assert [each.arguments for each in record.approvals] == [
        {"order": 1, "euros": 39},
        {"order": 2, "euros": 50},
    ]
    assert results(Chat, record.id) == [("completed", "refunded 5")]


def test_an_approved_call_whose_turn_was_cancelled_before_it_was_run_on_is_run_later(database: Any) -> None:
    shop, Chat = a_shop(database)
    for then in ("resume", "continue"):
        record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
        record.approvals[0].approve()
        Chat.cancel_session(record.id)
        if then == "resume":
            said(plain, Chat, ["Done."], "resume_session", record.id)
            assert shop.refunds == [(1, "")]
        else:
            _, asked, _ = said(plain, Chat, ["Yes?"], "continue_session", record.id, "Hello?")
            assert ("tool", "This call was not carried out.") in shown(asked[0])
    assert shop.refunds == [(1, "")]


def test_nobody_waits_for_a_person(database: Any) -> None:
    _, Chat = a_shop(database, session={"on_busy": "wait", "busy_timeout": 60.0})
    record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    began = time.monotonic()
    with pytest.raises(SessionBusy):
        Chat.continue_session(record.id, "Well?")
    assert time.monotonic() - began < 30


@pytest.mark.backends("sqlite")
def test_a_reason_is_a_text(database: Any) -> None:
    _, Chat = a_shop(database)
    record, _, _ = said(plain, Chat, [tool_call("refund", order=1)])
    with pytest.raises(InputInvalid, match="the reason is of the type int"):
        record.approvals[0].reject(3)
    record.approvals[0].reject(None)
    assert stored(record)["turn"]["approvals"][0]["status"] == "rejected"


@pytest.mark.backends("sqlite")
def test_what_is_left_as_it_was_shown_is_given_as_it_was(database: Any) -> None:
    given: list[Any] = []

    @tool(needs_approval=True)
    def note(
        text: Annotated[str, AfterValidator(louder)],
        secret: SecretStr,
        when: datetime.date = None,  # type: ignore[assignment]  # noqa: RUF013
        often: int = 1,
    ) -> str:
        """Note."""
        given.append((text, secret.get_secret_value(), when, often))
        return "noted"

    Chat = tooled(database, note)
    for changes in ({}, {"often": 3}):
        record, _, _ = said(plain, Chat, [tool_call("note", text="a", secret="s3cret")])
        (approval,) = record.approvals
        assert "s3cret" not in str(approval.arguments)
        approval.edit({**approval.arguments, **changes})
        said(plain, Chat, ["Done."], "resume_session", record.id)
    assert given == [("a!", "s3cret", None, 1), ("a!", "s3cret", None, 3)]
