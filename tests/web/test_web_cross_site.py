"""What a page of another site can send with the user's cookies reaches no action."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.support.approval_shop import refund
from tests.support.web_clients import WEBS, Web, owned_chat, problem

pytestmark = [pytest.mark.backends("sqlite"), pytest.mark.layouts("document")]

POSTS = [
    "/",
    "/stream",
    "/{}/messages",
    "/{}/messages/stream",
    "/{}/resume",
    "/{}/resume/stream",
    "/{}/cancel",
    "/{}/approvals",
]
WITHOUT_A_BODY = ["/{}/resume", "/{}/resume/stream", "/{}/cancel"]
FORMS = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "text/plain; charset=application/json",
    "text/plain;application/json",
    "TEXT/PLAIN",
    "application/jsonp",
    "json",
    " ",
]


@pytest.fixture(params=WEBS)
def makes(request: Any) -> Any:
    return WEBS[request.param]


@pytest.fixture
def Chat(database: Any) -> Any:
    return owned_chat(database, tools=[refund])


def waiting(Chat: Any) -> tuple[str, str]:
    """A session whose turn is pending: the key, and the stored turn."""
    session = Chat.start_session("Hello", actor="ann", run=False)
    return str(session.id), session.last_turn.id


@pytest.mark.parametrize("path", POSTS)
def test_a_form_is_refused_by_every_post(makes: Any, Chat: Any, path: str) -> None:
    web: Web = makes(Chat)
    key, turn = waiting(Chat)
    for type, body in product(FORMS, (b"", b'{"message": "x"}')):
        answer = web("POST", path.format(key), body, Content_Type=type)
        assert problem(answer, 415) == "UnsupportedMediaType", (type, body)
    assert Chat.select().count() == 1
    stored = Chat.get_context(key, actor="ann").turn
    assert (stored.id, stored.status) == (turn, "pending")


OTHERS = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://test"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://test:8000"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("path", WITHOUT_A_BODY)
def test_an_empty_post_by_a_script_of_another_site_is_refused(makes: Any, Chat: Any, path: str) -> None:
    """`fetch(url, {method: "POST", mode: "no-cors"})` has no content type, and is not asked about first."""
    web: Web = makes(Chat)
    key, _ = waiting(Chat)
    for headers in OTHERS:
        answer = web("POST", path.format(key), **headers, Host="test")
        assert problem(answer, 415) == "UnsupportedMediaType", headers
    assert Chat.get_context(key, actor="ann").turn.status == "pending"


OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://test"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://test"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://allowed.example", "Content-Type": "application/json"},
]


def test_an_empty_post_of_the_own_page_or_of_a_program_is_accepted(makes: Any, Chat: Any) -> None:
    """JSON of another site is accepted: a browser sends it only after the app has allowed that site."""
    web: Web = makes(Chat)
    for headers in OWN:
        key, _ = waiting(Chat)
        answer = web("POST", f"/{key}/cancel", **headers, Host="test")
        assert (answer.status, answer.json["turn"]["status"]) == (200, "interrupted"), headers


def test_json_is_accepted(makes: Any, Chat: Any) -> None:
    web: Web = makes(Chat)
    for type in ("application/json", "Application/JSON; charset=utf-8", "application/x+json"):
        assert web("POST", "/", {"message": "x"}, Content_Type=type).status == 201, type


def test_a_body_without_a_type_is_refused(makes: Any, Chat: Any) -> None:
    """A script can send one, of a blob that has no type."""
    web: Web = makes(Chat)
    headers = {"X-User": "ann"}
    answer = web.ask("POST", "/", b'{"message": "x"}', headers)
    assert problem(answer, 415) == "UnsupportedMediaType"
    assert Chat.select().count() == 0
