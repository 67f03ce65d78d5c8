"""What a browser is refused that decides about calls, in FastAPI and in Flask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentsession import _clock, testing
from tests.support.approval_shop import DONE, Shop, asked, refund
from tests.support.web_clients import WEBS, Web, owned_chat, problem

# The layout makes no difference to the routes: test_web_approvals.py calls them in both.
pytestmark = [pytest.mark.backends("sqlite"), pytest.mark.layouts("document")]

Makes = Callable[..., Web]


@pytest.fixture(params=WEBS)
def makes(request: Any) -> Any:
    return WEBS[request.param]


@pytest.fixture
def shop(makes: Makes, database: Any) -> Shop:
    model = owned_chat(database, tools=[refund])
    return Shop(model, makes(model))


UNFIT = [
    ({"order": "four"}, "order: Input should be a valid integer"),
    ({}, "order: Field required"),
    ({"order": 4, "by": "x"}, "by: unknown argument"),
    ({"order": float("nan")}, "JSON cannot carry"),
    ({"order": "\0"}, "NUL"),
]


def test_edited_arguments_that_do_not_fit_change_nothing(shop: Shop) -> None:
    key, (call,) = shop.begin()
    for arguments, found in UNFIT:
        answer = shop.decide(key, call, "edit", arguments=arguments)
        assert problem(answer, 422) == "InputInvalid", arguments
        assert found in answer.json["detail"]
        assert "four" not in answer.json["detail"]
        assert shop.waiting(key) == [asked(call)], arguments


def deep(levels: int) -> dict[str, Any]:
    return {"order": deep(levels - 1)} if levels else {}


BAD: list[Any] = [
    {},
    [],
    "approve",
    None,
    {"decision": "approve"},
    {"call": 7},
    {"call": 7, "decision": "approve"},
    {"call": "x", "decision": "maybe"},
    {"call": "x", "decision": ["approve"]},
    {"call": "x", "decision": "approve", "by": "the boss"},
    {"call": "x", "decision": "approve", "reason": "why not"},
    {"call": "x", "decision": "reject", "reason": 7},
    {"call": "x", "decision": "reject", "reason": "\ud800"},
    {"call": "\ud800", "decision": "approve"},
    {"call": "x", "decision": "edit"},
    {"call": "x", "decision": "edit", "arguments": [3]},
    {"call": "x", "decision": "edit", "arguments": deep(30)},
]


def test_a_malformed_decision_is_refused(shop: Shop) -> None:
    key, (call,) = shop.begin()
    for body in BAD:
        if isinstance(body, dict) and body.get("call") == "x":
            body = body | {"call": call}
        answer = shop.web("POST", f"/{key}/approvals", b"null" if body is None else body)
        assert problem(answer, 422) == "InputInvalid", body
        assert "maybe" not in answer.json["detail"]
        assert shop.waiting(key) == [asked(call)], body


def test_a_decision_in_a_form_of_another_site_is_refused(shop: Shop) -> None:
    key, (call,) = shop.begin()
    body = f'{{"call": "{call}", "decision": "approve"}}'.encode()
    answer = shop.web("POST", f"/{key}/approvals", body, Content_Type="text/plain")
    assert problem(answer, 415) == "UnsupportedMediaType"
    assert problem(shop.web("POST", f"/{key}/approvals", b"{"), 422) == "InputInvalid"


def test_a_call_is_decided_once(shop: Shop) -> None:
    key, (call,) = shop.begin()
    for _ in range(2):  # as a client does whose answer was lost
        assert shop.decide(key, call, "approve").status == 200
    for decision, more in [("reject", {}), ("edit", {"arguments": {"order": 4}})]:
        again = shop.decide(key, call, decision, **more)
        assert problem(again, 409) == "NothingToApprove"
        assert "approved before" in again.json["detail"]
    with shop.script(DONE):
        shop.web("POST", f"/{key}/resume")
    assert problem(shop.decide(key, call, "approve"), 409) == "NothingToApprove"


def test_a_call_that_is_unknown_is_not_decided(shop: Shop) -> None:
    key, (call,) = shop.begin()
    for decision, more in [("approve", {}), ("reject", {}), ("edit", {"arguments": {"order": 4}})]:
        assert problem(shop.decide(key, call + "0", decision, **more), 409) == "NothingToApprove"
    assert shop.waiting(key) == [asked(call)]


def test_a_turn_that_is_cancelled_waits_no_more(shop: Shop) -> None:
    key, (call,) = shop.begin()
    assert shop.web("POST", f"/{key}/cancel").json["turn"]["approvals"] == []
    assert shop.waiting(key) == []
    assert problem(shop.decide(key, call, "approve"), 409) == "NothingToApprove"


def test_a_call_of_another_is_not_found(shop: Shop) -> None:
    key, (call,) = shop.begin()
    body = {"call": call, "decision": "approve"}
    for user, status in [("bob", 404), ("", 401)]:
        for method, given in [("GET", None), ("POST", body)]:
            problem(shop.web(method, f"/{key}/approvals", given, X_User=user), status)
    assert problem(shop.web("GET", "/no id/approvals"), 404) == "SessionNotFound"
    assert problem(shop.web("POST", "/no id/approvals", body), 404) == "SessionNotFound"
    assert shop.waiting(key) == [asked(call)]


def test_a_session_that_waits_says_so_and_not_when_to_try_again(shop: Shop) -> None:
    key, (call,) = shop.begin()
    for path in ("/messages", "/messages/stream", "/resume", "/resume/stream"):
        answer = shop.web("POST", f"/{key}{path}", {"message": "Well?"})
        assert problem(answer, 409) == "SessionBusy"
        assert f"waits for the approval of refund ({call})" in answer.json["detail"]
        assert "retry-after" not in answer.headers


def test_a_tool_that_ends_its_turn_with_an_error_is_a_502_without_its_words(
    makes: Makes, database: Any
) -> None:
    model = owned_chat(database, tools=[refund], on_tool_error="halt")
    shop = Shop(model, makes(model))
    key, (call,) = shop.begin(testing.tool_call("refund", order=-3))
    shop.decide(key, call, "approve")
    failed = shop.web("POST", f"/{key}/resume")
    assert problem(failed, 502) == "ToolFailed"
    assert failed.json["detail"] == "a tool failed"
    turn = shop.web("GET", f"/{key}").json["turn"]
    assert turn["error"] == {"type": "ToolFailed", "message": "a tool failed"}


def test_without_a_tool_that_waits_there_are_no_such_routes(makes: Makes, database: Any) -> None:
    def look(order: int) -> str:
        """Look at an order."""
        return "sent"

    web = makes(owned_chat(database, tools=[look]))
    key = web.begin()
    assert web("GET", f"/{key}/approvals").status == 404
    assert web("POST", f"/{key}/approvals", {"call": "x", "decision": "approve"}).status == 404


def test_a_call_is_not_decided_once_its_time_is_over(
    makes: Makes, database: Any, at: _clock.FakeClock
) -> None:
    model = owned_chat(database, tools=[refund], approval_timeout=60.0)
    shop = Shop(model, makes(model))
    key, (call,) = shop.begin()
    at.advance(61)
    assert shop.waiting(key) == []
    late = shop.decide(key, call, "approve")
    assert problem(late, 409) == "NothingToApprove"
    assert "the time" in late.json["detail"]
