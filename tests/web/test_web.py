"""What a browser can do with sessions: the same routes, JSON and problems in FastAPI, in Flask, and in a
router for Starlette, which shows what another framework needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import peewee as pw
import pytest
from pydantic import BaseModel

from agentsession.provider import Delta, Reply
from tests.support.models import Answer
from tests.support.servers import open_database
from tests.support.starlette_router import starlette_web
from tests.support.web_clients import WEBS, Says, Web, owned_chat, problem

pytestmark = pytest.mark.backends("sqlite")

Makes = Callable[..., Web]


ROUTERS = WEBS | {"starlette": starlette_web}


@pytest.fixture(params=ROUTERS)
def makes(request: Any) -> Any:
    return ROUTERS[request.param]


@pytest.fixture
def web(makes: Makes, database: Any) -> Web:
    return makes(owned_chat(database))


def test_a_conversation_is_begun_goes_on_and_is_read(web: Web) -> None:
    begun = web("POST", "/", {"message": "Hello"})
    assert begun.status == 201
    key = begun.json["id"]
    assert begun.json["turn"]["status"] == "completed"
    assert begun.json["result"]["output"] == "You said: Hello (message 1 of this conversation)"
    answer = web("POST", f"/{key}/messages", {"message": "And now?"})
    assert (answer.status, answer.json["id"]) == (200, key)
    assert answer.json["result"]["text"] == "You said: And now? (message 2 of this conversation)"
    read = web("GET", f"/{key}").json
    assert (read["id"], read["status"], read["turn"]["id"]) == (key, "completed", answer.json["turn"]["id"])
    assert [message["role"] for message in read["messages"]] == ["user", "assistant"] * 2
    assert read["messages"][2]["text"] == read["messages"][2]["content"] == "And now?"


def test_what_is_shown_has_no_internals(web: Web) -> None:
    read = web("GET", f"/{web.begin()}").json
    assert read.keys() == {"id", "status", "turn", "messages"}
    assert read["turn"].keys() == {"id", "status", "error", "until", "partial", "usage", "approvals"}
    assert {key for message in read["messages"] for key in message} == {
        "id",
        "turn",
        "role",
        "text",
        "content",
    }


def test_a_pinned_instruction_is_not_shown(makes: Makes, database: Any) -> None:
    web = makes(owned_chat(database, {"pin_instruction": True}, instruction="The secret is 7."))
    read = web("GET", f"/{web.begin()}")
    assert [message["role"] for message in read.json["messages"]] == ["user", "assistant"]
    assert "secret" not in read.text


def test_a_reply_is_streamed(web: Web) -> None:
    answer = web("POST", "/stream", {"message": "Hello"})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    first, *deltas, last = answer.events
    assert (first[0], last[0]) == ("turn_started", "turn_finished")
    key = first[1]["session"]
    text = "".join(data["text"] for _, data in deltas)
    assert text == last[1]["result"]["output"] == web("GET", f"/{key}").json["messages"][1]["text"]
    again = web("POST", f"/{key}/messages/stream", {"message": "More"})
    assert again.events[-1][1]["result"]["text"] == "You said: More (message 2 of this conversation)"


def test_a_message_that_is_sent_twice_with_one_key_is_one_turn(makes: Makes, database: Any) -> None:
    model = Says("one", "two")
    web = makes(owned_chat(database, provider=model))
    begun = [web("POST", "/", {"message": "Hello"}, Idempotency_Key="a") for _ in range(2)]
    assert begun[0].json["id"] == begun[1].json["id"]
    key = begun[0].json["id"]
    sent = [web("POST", f"/{key}/messages", {"message": "x"}, Idempotency_Key="b") for _ in range(2)]
    assert sent[0].json["turn"] == sent[1].json["turn"]
    assert model.asked == 2
    streamed = web("POST", f"/{key}/messages/stream", {"message": "x"}, Idempotency_Key="b")
    assert [name for name, _ in streamed.events] == ["turn_finished"]
    assert streamed.events[0][1]["result"]["text"] == "two"
    assert model.asked == 2


def test_two_users_with_one_key_have_two_sessions(web: Web) -> None:
    mine = web("POST", "/", {"message": "Hello"}, Idempotency_Key="a").json["id"]
    theirs = web("POST", "/", {"message": "Hello"}, Idempotency_Key="a", X_User="bob").json["id"]
    assert mine != theirs


def test_structured_input_and_output_are_json(makes: Makes, database: Any) -> None:
    class Order(BaseModel):
        dish: str
        count: int = 1

    web = makes(owned_chat(database, input_schema=Order, output_schema=Answer))
    answer = web("POST", "/", {"dish": "soup", "count": "2"})
    assert answer.json["result"]["output"].keys() == {"content"}
    read = web("GET", f"/{answer.json['id']}").json
    assert read["messages"][0]["content"] == {"dish": "soup", "count": 2}


def test_an_input_that_is_no_object_is_wrapped_in_one(makes: Makes, database: Any) -> None:
    web = makes(owned_chat(database, input_schema=str))
    assert web("POST", "/", {"input": "Hello"}).json["result"]["text"].startswith("You said: Hello")
    for body in ("Hello", {"message": "Hello"}, {"input": "Hello", "more": 1}, {"input": 7}):
        assert problem(web("POST", "/", body), 422) == "InputInvalid"


def test_a_union_of_objects_is_no_wrapped_input(makes: Makes, database: Any) -> None:
    class Text(BaseModel):
        text: str

    class Number(BaseModel):
        number: int

    web = makes(owned_chat(database, input_schema=Text | Number))
    assert web("POST", "/", {"number": 7}).status == 201


def test_sessions_are_listed_page_by_page(web: Web) -> None:
    keys = [web.begin(str(number)) for number in range(5)]
    first = web("GET", "/?limit=3").json
    rest = web("GET", f"/?limit=3&before={first['next']}").json
    listed = first["sessions"] + rest["sessions"]
    assert [each["id"] for each in listed] == keys[::-1]
    assert rest["next"] is None
    assert all(each["status"] == "completed" and each["updated"].endswith("Z") for each in listed)


def test_sessions_without_a_time_are_not_listed(makes: Makes, database: Any) -> None:
    web = makes(owned_chat(database, {"updated_attribute": None}))
    web.begin()
    assert web("GET", "/").status == 405


def test_a_session_is_deleted(web: Web) -> None:
    key = web.begin()
    answer = web("DELETE", f"/{key}")
    assert (answer.status, answer.text) == (204, "")
    assert problem(web("DELETE", f"/{key}"), 404) == "SessionNotFound"


def test_a_turn_that_waits_is_cancelled_and_one_that_ended_stays(makes: Makes, database: Any) -> None:
    Chat = owned_chat(database)
    web = makes(Chat)
    session = Chat.start_session("Hello", actor="ann", run=False)
    cancelled = web("POST", f"/{session.id}/cancel")
    assert (cancelled.status, cancelled.json["id"]) == (200, str(session.id))
    assert cancelled.json["turn"]["status"] == "interrupted"
    assert cancelled.json["turn"]["error"]["message"] == "cancel_session stopped this turn"
    web("POST", f"/{session.id}/resume")
    assert web("POST", f"/{session.id}/cancel").json["turn"]["status"] == "completed"


def test_a_session_that_never_had_a_turn_is_shown_empty(makes: Makes, database: Any) -> None:
    Chat = owned_chat(database)
    web = makes(Chat)
    row = Chat.create(owner="ann")
    assert web("GET", f"/{row.id}").json == {"id": str(row.id), "status": None, "turn": None, "messages": []}
    assert problem(web("POST", f"/{row.id}/cancel"), 409) == "NoResult"


def test_a_number_is_a_number_everywhere(makes: Makes, database: Any) -> None:
    web = makes(owned_chat(database, key=pw.AutoField()))
    answer = web("POST", "/stream", {"message": "Hello"})
    ids = {
        answer.events[0][1]["session"],
        web("GET", "/1").json["id"],
        web("GET", "/").json["sessions"][0]["id"],
    }
    assert ids == {1}
    assert problem(web("GET", "/" + "9" * 30), 404) == "SessionNotFound"
    assert problem(web("POST", "/", {"message": "x"}, Idempotency_Key="k"), 422) == "InputInvalid"


def test_a_model_that_has_no_owner_needs_no_actor(makes: Makes, database: Any) -> None:
    web = makes(owned_chat(database, {"owner_attribute": None}), actor=None)
    key = web.begin()
    assert [each["id"] for each in web("GET", "/").json["sessions"]] == [key]


def test_a_model_without_generated_names_has_the_routes(makes: Makes, database: Any) -> None:
    web = makes(owned_chat(database, {"inject": False}))
    assert web("POST", f"/{web.begin()}/messages", {"message": "More"}).status == 200


@pytest.mark.parametrize("given", [{"company": "Acme"}, lambda: {"company": "Acme"}])
def test_the_instruction_is_the_apps_and_not_the_clients(makes: Makes, database: Any, given: Any) -> None:
    prompts = []

    class Sees(Says):
        def ask(self, request: Any) -> Reply:
            prompts.append(request.prompt)
            return Reply("yes")

    Chat = owned_chat(database, instruction="You work for {{ company }}.", provider=Sees())
    web = makes(Chat, instruction_args=given)
    assert web("POST", "/?company=Evil", {"message": "{{ company }}", "company": "Evil"}).status == 422
    web("POST", f"/{web.begin()}/messages", {"message": "More"})
    assert {prompt[0].content for prompt in prompts} == {"You work for Acme."}


def test_slow_turns_hold_no_connection(makes: Makes, database_url: str) -> None:
    together = threading.Barrier(4)

    class Meets(Says):
        def ask(self, request: Any) -> Reply:
            together.wait(30)
            return Reply("met")

        def stream(self, request: Any) -> Any:
            yield Delta("m")
            together.wait(30)
            yield Reply("met")

    database = open_database(database_url, pool=1)
    web = makes(owned_chat(database, provider=Meets()))
    with ThreadPoolExecutor(4) as threads:
        paths = ["/", "/stream"] * 2
        answers = [*threads.map(lambda path: web("POST", path, {"message": "Hello"}), paths)]
    assert [answer.status for answer in answers] == [201, 200] * 2
    assert all('"met"' in answer.text for answer in answers)
    database.close_all()
