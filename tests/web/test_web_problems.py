"""What a browser is refused, in FastAPI and in Flask: problem details, without a word too many."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from agentsession import ContextUnreadable, DslError, InputInvalid, StorageFailed, TransactionOpen, TurnFailed
from agentsession._turn.finish import ERRORS
from agentsession.contrib._web.problems import last_event, problem_of
from agentsession.errors import ProviderCallError
from agentsession.events import client_message
from tests.support.models import Answer
from tests.support.web_clients import WEBS, Says, Web, owned_chat, problem

# The layout makes no difference to the routes: test_web.py calls them in both.
pytestmark = [pytest.mark.backends("sqlite"), pytest.mark.layouts("document")]

Makes = Callable[..., Web]


@pytest.fixture(params=WEBS)
def makes(request: Any) -> Any:
    return WEBS[request.param]


@pytest.fixture
def web(makes: Makes, database: Any) -> Web:
    return makes(owned_chat(database))


def test_a_session_of_another_is_not_found_by_any_route(web: Web) -> None:
    key = web.begin()
    routes = [
        ("GET", ""),
        ("DELETE", ""),
        *(("POST", each) for each in ("/cancel", "/resume", "/resume/stream")),
    ]
    for method, path in routes:
        assert problem(web(method, f"/{key}{path}", X_User="bob"), 404) == "SessionNotFound"
    for path in ("/messages", "/messages/stream"):
        assert problem(web("POST", f"/{key}{path}", {"message": "x"}, X_User="bob"), 404) == "SessionNotFound"
    assert web("GET", "/", X_User="bob").json == {"sessions": [], "next": None}
    assert len(web("GET", f"/{key}").json["messages"]) == 2


UNKNOWN_IDS = [str(UUID(int=7)), "no id", "1", "%00", "%F0%9F%98%80", "stream", "' or 1=1 --"]


def test_an_unknown_id_is_not_found(web: Web) -> None:
    for key in UNKNOWN_IDS:
        assert problem(web("GET", f"/{key}"), 404) == "SessionNotFound", key
        assert problem(web("DELETE", f"/{key}"), 404) == "SessionNotFound", key
        assert problem(web("POST", f"/{key}/messages", {"message": "x"}), 404) == "SessionNotFound", key


def test_a_request_without_a_user_is_refused(web: Web) -> None:
    key = web.begin()
    for path in ("/", "/stream", f"/{key}/messages", f"/{key}/messages/stream", f"/{key}/resume"):
        assert problem(web("POST", path, {"message": "x"}, X_User=""), 401) == "Unauthorized", path
    assert problem(web("GET", "/", X_User=""), 401) == "Unauthorized"


BAD = [
    (b"{", "body"),
    (b"", "body"),
    (b'{"mssage": "x"}', "the input does not fit"),
    (b'{"message": ""}', "the input is empty"),
    (b'{"message": "x", "actor": "bob"}', "the input does not fit"),
    (b'{"message": "\\ud800"}', "surrogate"),
    (b'{"message": "\\u0000"}', "NUL"),
    (b"[]", "the input does not fit"),
    (b"7", "the input does not fit"),
]


def test_an_input_that_does_not_fit_is_refused(web: Web) -> None:
    key = web.begin()
    paths = ("/", "/stream", f"/{key}/messages", f"/{key}/messages/stream")
    for path, (body, found) in product(paths, BAD):
        answer = web("POST", path, body)
        assert problem(answer, 422) == "InputInvalid", (path, body)
        assert found in answer.json["detail"]
    assert len(web("GET", "/").json["sessions"]) == 1
    assert len(web("GET", f"/{key}").json["messages"]) == 2


def test_a_key_of_another_message_is_refused(web: Web) -> None:
    web("POST", "/", {"message": "Hello"}, Idempotency_Key="a")
    answer = web("POST", "/", {"message": "Other"}, Idempotency_Key="a")
    assert problem(answer, 422) == "IdempotencyMismatch"
    assert problem(web("POST", "/", {"message": "x"}, Idempotency_Key="k" * 300), 422) == "InputInvalid"


def test_a_busy_session_says_when_to_try_again(makes: Makes, database: Any) -> None:
    Chat = owned_chat(database)
    web = makes(Chat)
    session = Chat.start_session("Hello", actor="ann", run=False)
    for path in ("/messages", "/messages/stream"):
        answer = web("POST", f"/{session.id}{path}", {"message": "x"})
        assert problem(answer, 409) == "SessionBusy"
        assert answer.headers["retry-after"] == "2"
    assert web("POST", f"/{session.id}/resume").json["turn"]["status"] == "completed"
    assert problem(web("POST", f"/{session.id}/resume"), 409) == "NothingToResume"


def test_a_model_that_fails_is_a_502_without_its_words(makes: Makes, database: Any) -> None:
    web = makes(owned_chat(database, provider=Says(ProviderCallError("sk-secret of acct-77"), "late")))
    answer = web("POST", "/", {"message": "Hello"})
    assert problem(answer, 502) == "ProviderFailed"
    assert answer.json["detail"] == "the model could not answer"
    key = answer.json["session"]
    read = web("GET", f"/{key}")
    assert read.json["turn"]["error"] == {"type": "ProviderFailed", "message": "the model could not answer"}
    assert [message.get("status") for message in read.json["messages"]] == ["failed"]
    assert "secret" not in answer.text + read.text
    resumed = web("POST", f"/{key}/resume")
    assert (resumed.status, resumed.json["result"]["text"]) == (200, "late")


def test_a_stream_that_fails_ends_with_an_event_without_the_providers_words(
    makes: Makes, database: Any
) -> None:
    web = makes(owned_chat(database, provider=Says(ProviderCallError("sk-secret"), "late")))
    answer = web("POST", "/stream", {"message": "Hello"})
    failed = {"type": "stream_failed", "error": "ProviderFailed", "message": "the model could not answer"}
    assert answer.events[-1] == ("stream_failed", failed)
    assert "secret" not in answer.text
    key = answer.events[0][1]["session"]
    resumed = web("POST", f"/{key}/resume/stream")
    assert resumed.events[-1][1]["result"]["text"] == "late"


def test_a_reply_of_the_wrong_form_is_a_502(makes: Makes, database: Any) -> None:
    web = makes(owned_chat(database, provider=Says("no JSON"), output_schema=Answer, output_retries=0))
    answer = web("POST", "/", {"message": "Hello"})
    assert problem(answer, 502) == "OutputInvalid"
    assert answer.json["detail"] == "the model's answer does not have the form that was asked for"


def test_a_message_that_is_too_large_is_refused(makes: Makes, database: Any) -> None:
    web = makes(owned_chat(database, {"max_input_bytes": 100}))
    assert problem(web("POST", "/", {"message": "x" * 100}), 422) == "InputInvalid"


def test_no_problem_has_the_words_of_a_provider_a_tool_or_a_database() -> None:
    kinds = {TurnFailed, StorageFailed, *ERRORS.values()}
    for error in (kind("sk-secret") for kind in kinds):
        shown = problem_of(error)
        assert shown is not None
        assert shown.status == (503 if isinstance(error, StorageFailed) else 502)
        assert "secret" not in shown.model_dump_json()
        assert "secret" not in last_event(error)
    assert len({client_message(name) for name in ERRORS} | {client_message("another")}) == len(ERRORS) + 1


@pytest.mark.parametrize(
    "error", [ContextUnreadable("x"), TransactionOpen("x"), DslError(()), ValueError("x")]
)
def test_what_only_the_program_can_mend_is_raised(error: Any) -> None:
    assert problem_of(error) is None
    with pytest.raises(type(error)):
        last_event(error)


def test_an_invalid_page_of_sessions_is_refused(web: Web) -> None:
    for query in ("limit=0", "limit=101", "limit=x", "limit=", "limit=1e1", "before=x", "before="):
        assert problem(web("GET", f"/?{query}"), 422) == "InputInvalid", query


def test_what_is_missing_is_told_when_the_routes_are_made(makes: Makes, database: Any) -> None:
    Chat = owned_chat(database, instruction="You work for {{ company }}.")
    with pytest.raises(DslError) as raised:
        makes(Chat, actor=None)
    owner, args = raised.value.problems
    assert owner.where.endswith("-> actor")
    assert "actor=current_user" in owner.fix
    assert args.where.endswith("-> instruction_args")
    assert 'instruction_args={"company": …}' in args.fix
    with pytest.raises(DslError, match="a str cannot be called"):
        makes(Chat, actor="ann", instruction_args={"company": "Acme"})
    with pytest.raises(DslError, match="has no owner_attribute"):
        makes(owned_chat(database, {"owner_attribute": None}))
    with pytest.raises(DslError, match="a list is not a mapping"):
        makes(Chat, instruction_args=["Acme"])


def test_a_variable_of_the_instruction_may_have_any_name(makes: Makes, database: Any) -> None:
    Chat = owned_chat(database, instruction="You work for {{ model }} and {{ maker }}.")
    web = makes(Chat, instruction_args={"model": "Acme", "maker": "Ann"})
    assert web("POST", "/", {"message": "Hello"}).status == 201


def test_a_mistake_of_the_program_is_no_problem_of_the_clients(makes: Makes, database: Any) -> None:
    Chat = owned_chat(database, instruction="You work for {{ company }}.")
    web = makes(Chat, instruction_args=lambda: {"nothing": 1})
    with pytest.raises(InputInvalid, match="company"):
        web("POST", "/", {"message": "Hello"})
