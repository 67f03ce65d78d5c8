"""Calls that wait for an approval, in FastAPI and in Flask: what a browser sees of them, and decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peewee as pw
import pytest

from agentsession import testing
from agentsession.provider import Reply
from tests.support.approval_shop import CALL, DONE, Shop, asked, refund
from tests.support.owned_models import owned, people
from tests.support.web_clients import WEBS, Web, owned_chat, problem

pytestmark = pytest.mark.backends("sqlite")

Makes = Callable[..., Web]


@pytest.fixture(params=WEBS)
def makes(request: Any) -> Any:
    return WEBS[request.param]


@pytest.fixture
def shop(makes: Makes, database: Any) -> Shop:
    model = owned_chat(database, tools=[refund])
    return Shop(model, makes(model))


def test_an_app_may_leave_the_decisions_to_others(makes: Makes, database: Any) -> None:
    model = owned_chat(database, tools=[refund])
    web = makes(model, approvals=False)
    shop = Shop(model, web)
    with shop.script(("One moment. ", CALL)):
        answer = web("POST", "/", {"message": "My money!"})
    assert answer.status == 202
    assert web("GET", f"/{answer.json['id']}/approvals").status == 404


def test_a_turn_that_waits_is_a_202_that_says_for_what(shop: Shop) -> None:
    with shop.script(("One moment. ", CALL)):
        answer = shop.web("POST", "/", {"message": "My money!"})
    assert (answer.status, answer.json["result"]) == (202, None)
    turn = answer.json["turn"]
    assert turn["status"] == "awaiting_approval"
    assert turn["approvals"] == [asked(f"{turn['id']}:0:0")]
    assert shop.waiting(answer.json["id"]) == turn["approvals"]


def test_a_call_that_is_approved_runs_when_the_turn_is_resumed(shop: Shop) -> None:
    key, (call,) = shop.begin()
    decided = shop.decide(key, call, "approve")
    assert (decided.status, decided.json["id"]) == (200, key)
    assert decided.json.keys() == {"id", "turn"}
    assert (decided.json["turn"]["status"], decided.json["turn"]["approvals"]) == ("awaiting_approval", [])
    with shop.script(DONE):
        resumed = shop.web("POST", f"/{key}/resume")
    assert (resumed.status, resumed.json["result"]["text"]) == (200, DONE)
    assert shop.waiting(key) == []
    messages = shop.web("GET", f"/{key}").json["messages"]
    assert [each["role"] for each in messages] == ["user", "assistant", "tool", "assistant"]
    assert (messages[2]["text"], messages[2]["outcome"]) == ("order 3 is refunded", "completed")
    assert messages[2]["content"][0]["call"] == call


def test_a_call_that_is_rejected_does_not_run_and_the_model_is_told_why(shop: Shop) -> None:
    key, (call,) = shop.begin()
    assert shop.decide(key, call, "reject", reason="Not without a receipt.").status == 200
    with shop.script(DONE):
        shop.web("POST", f"/{key}/resume")
    assert "Not without a receipt." in shop.seen[0][-1].content
    assert shop.web("GET", f"/{key}").json["messages"][2]["outcome"] == "rejected"


def test_a_call_runs_with_arguments_that_were_edited(shop: Shop) -> None:
    key, (call,) = shop.begin()
    assert shop.decide(key, call, "edit", arguments={"order": 4}).status == 200
    with shop.script(DONE):
        shop.web("POST", f"/{key}/resume")
    assert shop.web("GET", f"/{key}").json["messages"][2]["text"] == "order 4 is refunded"


def test_calls_are_decided_one_by_one(shop: Shop) -> None:
    key, (first, second) = shop.begin(CALL, testing.tool_call("refund", order=5))
    assert shop.decide(key, first, "approve").json["turn"]["approvals"] == [asked(second, 5)]
    busy = shop.web("POST", f"/{key}/resume")
    assert problem(busy, 409) == "SessionBusy"
    assert second in busy.json["detail"]
    assert first not in busy.json["detail"]
    assert shop.decide(key, second, "reject").json["turn"]["approvals"] == []


def test_a_turn_may_wait_more_than_once(shop: Shop) -> None:
    key, (call,) = shop.begin()
    shop.decide(key, call, "approve")
    with shop.script(testing.tool_call("refund", order=4)):
        resumed = shop.web("POST", f"/{key}/resume")
    assert (resumed.status, resumed.json["result"]) == (202, None)
    (waiting,) = resumed.json["turn"]["approvals"]
    assert waiting["call"] != call
    shop.decide(key, waiting["call"], "approve")
    with shop.script(DONE):
        assert shop.web("POST", f"/{key}/resume").json["result"]["text"] == DONE
    with shop.script(CALL):
        assert shop.web("POST", f"/{key}/messages", {"message": "And the other?"}).status == 202


def test_a_key_of_any_characters_names_its_call(shop: Shop) -> None:
    with shop.script("Hello."):
        session = shop.web.begin()
    sent = {"Idempotency_Key": "a/b?c#d%20 : 0"}
    with shop.script(CALL):
        answers = [shop.web("POST", f"/{session}/messages", {"message": "x"}, **sent) for _ in range(2)]
    assert [answer.status for answer in answers] == [202, 202]
    assert answers[0].json == answers[1].json
    (waiting,) = answers[1].json["turn"]["approvals"]
    assert sent["Idempotency_Key"] in waiting["call"]
    assert shop.decide(session, waiting["call"], "approve").status == 200


def test_a_stream_whose_turn_has_to_wait_ends_with_what_it_waits_for(shop: Shop) -> None:
    with shop.script(("One moment. ", CALL)):
        answer = shop.web("POST", "/stream", {"message": "My money!"})
    assert answer.status == 200
    names = [name for name, _ in answer.events]
    assert (names[0], names[-1]) == ("turn_started", "approval_needed")
    assert not {"turn_finished", "stream_failed"} & {*names}
    key, waiting = answer.events[0][1]["session"], answer.events[-1][1]
    assert shop.waiting(key) == [{name: waiting[name] for name in ("call", "tool", "arguments")}]
    shop.decide(key, waiting["call"], "approve")
    with shop.script(DONE):
        resumed = shop.web("POST", f"/{key}/resume/stream").events
    told = [name for name, _ in resumed if name != "text_delta"]
    assert told == ["turn_started", "tool_started", "tool_progress", "tool_finished", "turn_finished"]
    assert resumed[2][1]["progress"] == {"order": 3}


def test_a_stream_that_is_asked_for_again_tells_again_what_it_waits_for(shop: Shop) -> None:
    key = {"Idempotency_Key": "k"}
    with shop.script(CALL, "Hello."):
        first = shop.web("POST", "/stream", {"message": "My money!"}, **key)
        again = shop.web("POST", "/stream", {"message": "My money!"}, **key)
        session = shop.web.begin()
    with shop.script(CALL):
        more = [
            shop.web("POST", f"/{session}/messages/stream", {"message": "x"}, **key).events for _ in range(2)
        ]
    assert [name for name, _ in again.events] == ["approval_needed"]
    assert again.events == first.events[-1:]
    assert more[1] == more[0][-1:]


def test_who_decides_is_the_actor_of_the_request(makes: Makes, database: Any) -> None:
    Person = people(database)
    ann = Person.create()
    Texts, Records = (
        owned_chat(database, tools=[refund]),
        owned(database, pw.ForeignKeyField(Person), tools=[refund]),
    )
    for model, actor, name in [(Texts, "ann", "ann"), (Records, ann, str(ann.id))]:
        shop = Shop(model, makes(model, actor=lambda actor=actor: actor))
        key, (call,) = shop.begin()
        shop.decide(key, call, "approve")
        (approval,) = model.get_context(key, actor=actor).turn.approvals
        assert (approval.status, approval.by) == ("approved", name)


def test_nobody_decides_where_sessions_have_no_owner(makes: Makes, database: Any) -> None:
    model = owned_chat(database, {"owner_attribute": None}, tools=[refund])
    shop = Shop(model, makes(model, actor=None))
    key, (call,) = shop.begin()
    assert shop.decide(key, call, "approve").status == 200
    assert model.get_context(key).turn.approvals[0].by == ""


def test_what_only_a_provider_can_read_is_not_shown(shop: Shop) -> None:
    with shop.script(Reply("One moment.", "Hm.", (CALL,), opaque='{"signature": "sk-secret"}')):
        key = shop.web("POST", "/", {"message": "My money!"}).json["id"]
    read = shop.web("GET", f"/{key}")
    assert [part["type"] for part in read.json["messages"][1]["content"]] == ["thinking", "text", "tool_call"]
    assert "secret" not in read.text
    assert "secret" in str(shop.model.get_context(key, actor="ann").messages[1].content)
