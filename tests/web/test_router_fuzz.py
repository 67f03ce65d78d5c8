"""Requests that schemathesis makes up from the router's OpenAPI page: none is a server's error, and every
answer is one that the page describes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from agentsession import testing
from agentsession.contrib.fastapi import session_router
from tests.support.approval_shop import CALL, refund
from tests.support.web_clients import ROUTES, WAITING, owned_chat

pytestmark = pytest.mark.layouts("document")  # test_web.py calls the routes in both

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


class Order(BaseModel):
    dish: str
    count: Annotated[int, Field(ge=1)] = 1
    tags: list[str] = []
    more: dict[str, Any] | None = None


class Bill(BaseModel):
    kind: Literal["bill", "offer"]
    lines: list[str]
    total: float


def operations_of(model: Any) -> dict[str, Any]:
    app = FastAPI()
    app.include_router(session_router(model, actor=lambda: "ann"), prefix="/chats")
    page = schemathesis.openapi.from_asgi("/openapi.json", app)
    return {operation.ok().label: operation.ok() for operation in page.get_all_operations()}


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize("route", ROUTES)
def test_every_answer_is_one_that_the_page_describes(database: Any, route: str) -> None:
    Chat = owned_chat(database, input_schema=Order, output_schema=Bill)
    operations = operations_of(Chat)
    assert operations.keys() == set(ROUTES)
    known = [str(Chat.start_session({"dish": "soup"}, actor="ann", run=run).id) for run in (True, False)]
    statuses = set()

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operations[route].as_strategy(), key=st.sampled_from([*known, None]))
    def check(case: Any, key: str | None) -> None:
        if key is not None and "id" in case.path_parameters:
            case.path_parameters["id"] = key
        answer = case.call()
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    check()
    assert min(statuses) < 300


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize("route", ["POST /chats/", "GET /chats/{id}", *WAITING])
def test_so_it_is_where_a_call_waits_for_an_approval(database: Any, route: str) -> None:
    Chat = owned_chat(database, input_schema=Order, tools=[refund])
    operations = operations_of(Chat)
    assert operations.keys() == {*ROUTES, *WAITING}
    with testing.script(Chat, lambda _: CALL):
        keys = [str(Chat.start_session({"dish": "soup"}, actor="ann").id) for _ in range(2)]
        calls = [Chat.get_context(key, actor="ann").turn.approvals[0].call for key in keys]
        statuses = set()

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operations[route].as_strategy(), at=st.sampled_from([0, 1, None]))
        def check(case: Any, at: int | None) -> None:
            if at is not None and "id" in case.path_parameters:
                case.path_parameters["id"] = keys[at]
                if isinstance(case.body, dict) and "call" in case.body:
                    case.body["call"] = calls[at]
            answer = case.call()
            statuses.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        check()
    assert min(statuses) < 300
