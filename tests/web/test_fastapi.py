"""What FastAPI alone does: the OpenAPI page, dependencies, asynchronous databases, the end of a response."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import peewee as pw
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, Field

from agentsession import events as events_module
from agentsession.contrib._web.event_stream import EventStream
from agentsession.contrib._web.openapi import EVENTS
from agentsession.contrib.fastapi import session_router
from agentsession.events import Event
from agentsession.provider import Delta, Reply
from tests.support import servers
from tests.support.approval_shop import refund
from tests.support.async_databases import run
from tests.support.models import Answer
from tests.support.owned_models import owned, people
from tests.support.web_clients import (
    ANN,
    ROUTES,
    Trickle,
    Web,
    asgi_web,
    events,
    fastapi_app,
    fastapi_web,
    owned_chat,
    user,
)

pytestmark = pytest.mark.layouts("document")  # test_web.py calls the routes in both

sqlite = pytest.mark.backends("sqlite")


class Order(BaseModel):
    dish: str
    count: Annotated[int, Field(ge=1)] = 1


def page_of(web: Web) -> Any:
    found: Any = web.app.openapi()
    return found


def resolved(page: Any, schema: Any) -> Any:
    while "$ref" in schema:
        schema = page["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema


@sqlite
def test_the_page_describes_input_and_output(database: Any) -> None:
    page = page_of(fastapi_web(owned_chat(database, input_schema=Order, output_schema=Answer)))
    begin = page["paths"]["/chats/"]["post"]
    body = resolved(page, begin["requestBody"]["content"]["application/json"]["schema"])
    assert body["properties"].keys() == {"dish", "count"}
    assert body["required"] == ["dish"]
    reply = resolved(page, begin["responses"]["201"]["content"]["application/json"]["schema"])
    result = resolved(page, reply["properties"]["result"])
    output = [resolved(page, branch) for branch in result["properties"]["output"]["anyOf"]]
    assert output[0]["properties"].keys() == {"content"}


@sqlite
def test_the_page_describes_every_route_with_its_problems(database: Any) -> None:
    paths = page_of(fastapi_web(owned_chat(database)))["paths"]
    assert {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods} == {*ROUTES}
    said = paths["/chats/{id}/messages"]["post"]
    assert said["responses"].keys() == {"200", "401", "404", "409", "413", "415", "422", "502", "503"}
    problems = [answer for status, answer in said["responses"].items() if status != "200"]
    assert all(problem["content"].keys() == {"application/problem+json"} for problem in problems)
    assert "Idempotency-Key" in [each["name"] for each in said["parameters"]]
    stream = paths["/chats/stream"]["post"]["responses"]["200"]
    assert stream["content"].keys() == {"text/event-stream"}


@sqlite
def test_the_page_describes_what_may_wait_for_an_approval(database: Any) -> None:
    page = page_of(fastapi_web(owned_chat(database, tools=[refund])))
    paths = page["paths"]
    body = paths["/chats/{id}/approvals"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    decisions = [resolved(page, branch) for branch in resolved(page, body)["oneOf"]]
    assert [{*each["properties"]} - {"call", "decision"} for each in decisions] == [
        set(),
        {"reason"},
        {"arguments"},
    ]
    for path in ("/chats/", "/chats/{id}/messages", "/chats/{id}/resume"):
        waits = paths[path]["post"]["responses"]["202"]["content"]["application/json"]["schema"]
        assert resolved(page, waits)["properties"]["result"]["type"] == "null"
    assert "202" not in paths["/chats/stream"]["post"]["responses"]


def test_the_page_knows_every_event() -> None:
    kinds = [
        kind for kind in vars(events_module).values() if isinstance(kind, type) and issubclass(kind, Event)
    ]
    assert set(EVENTS) == {events_module.event_name(kind) for kind in kinds if kind is not Event}


@sqlite
def test_a_plain_input_is_described_in_its_wrapping(database: Any) -> None:
    page = page_of(fastapi_web(owned_chat(database, input_schema=str)))
    shown = page["paths"]["/chats/"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert resolved(page, shown)["properties"]["input"]["type"] == "string"


@sqlite
def test_a_router_is_part_of_another(database: Any) -> None:
    chats = session_router(owned_chat(database), actor=user, prefix="/chats", tags=["talk"])
    api = APIRouter(prefix="/api")
    api.include_router(chats)
    app = FastAPI()
    app.include_router(api)
    web = asgi_web(app, "/api/chats")
    assert web("GET", "/" + web.begin()).json["status"] == "completed"
    assert web("GET", "/x").json["title"] == "SessionNotFound"
    assert app.openapi()["paths"]["/api/chats/"]["post"]["tags"] == ["talk"]


@sqlite
def test_the_actor_is_a_dependency_with_dependencies_of_its_own(database: Any) -> None:
    Person = people(database)
    ann, bob = Person.create(), Person.create()
    Chat = owned(database, pw.ForeignKeyField(Person, backref="+"))

    async def number(x_user: Annotated[str, Header()]) -> AsyncIterator[int]:
        yield {"ann": ann.id, "bob": bob.id}[x_user]

    def person(number: int = Depends(number)) -> Any:
        if number == bob.id:
            raise HTTPException(403, "not today", {"X-Reason": "closed"})
        return Person.get_by_id(number)

    web = fastapi_web(Chat, actor=person)
    assert Chat.get_by_id(web.begin()).owner == ann
    refused = web("POST", "/", {"message": "Hello"}, X_User="bob")
    assert (refused.status, refused.headers["x-reason"], refused.json) == (
        403,
        "closed",
        {"detail": "not today"},
    )


@sqlite
def test_the_instructions_arguments_come_from_a_dependency(database: Any) -> None:
    def company(whose: Annotated[str, Depends(user)]) -> dict[str, str]:
        return {"company": f"{whose}'s shop"}

    Chat = owned_chat(database, instruction="You work for {{ company }}.")
    web = fastapi_web(Chat, instruction_args=company)
    context = Chat.get_context(web.begin(), actor="ann")
    assert context.instruction_args == {"company": "ann's shop"}


def test_sessions_of_an_asynchronous_database_have_the_same_routes(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        Chat = await db.run(owned_chat, db)
        app = fastapi_app(Chat)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test/chats"
        ) as ask:
            ask.headers = ANN
            key = (await ask.post("/", json={"message": "Hello"})).json()["id"]
            streamed = await ask.post(f"/{key}/messages/stream", json={"message": "More"})
            assert events(streamed.text)[-1][0] == "turn_finished"
            assert [each["id"] for each in (await ask.get("/")).json()["sessions"]] == [key]
            assert len((await ask.get(f"/{key}")).json()["messages"]) == 4
            assert (await ask.delete(f"/{key}")).status_code == 204
            assert (await ask.get(f"/{key}")).status_code == 404

    run(database_url, scenario)


@sqlite
def test_slow_turns_on_one_loop_share_one_connection(database_url: str) -> None:
    class Meets:
        """Answers once eight have asked."""

        together: Any = None

        def ask(self, request: Any) -> Reply:
            raise AssertionError("there are coroutines")

        async def aask(self, request: Any) -> Reply:
            await asyncio.wait_for(self.together.wait(), 20)
            return Reply("met")

        async def astream(self, request: Any) -> AsyncIterator[Delta | Reply]:
            yield Delta("m")
            yield await self.aask(request)

    model, database = Meets(), servers.open_database(database_url, pool=1)
    app = fastapi_app(owned_chat(database, provider=model))

    async def scenario() -> list[str]:
        model.together = asyncio.Barrier(8)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test/chats"
        ) as ask:
            asked = [ask.post(path, json={"message": "x"}, headers=ANN) for path in ["/", "/stream"] * 4]
            return [answer.text for answer in await asyncio.gather(*asked)]

    assert all('"met"' in text for text in asyncio.run(scenario()))
    database.close_all()


def call(app: Any, send: Any, gone: asyncio.Event, path: str = "/chats/stream") -> Any:
    """One request, as a server makes it."""
    headers = [(b"content-type", b"application/json"), (b"x-user", b"ann")]
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1"}
    scope |= {"method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    scope |= {"headers": headers, "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    asked = iter([{"type": "http.request", "body": b'{"message": "Hello"}', "more_body": False}])

    async def receive() -> Any:
        message = next(asked, None)
        if message is None:
            await gone.wait()
        return message or {"type": "http.disconnect"}

    return app(scope, receive, send)


@sqlite
@pytest.mark.parametrize("how", ["hangs", "breaks"])
def test_the_turn_has_ended_when_the_app_returns(
    database: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Where an event could not be sent the stream is left in the middle, and nobody may wait for it to be
    collected as garbage."""
    model = Trickle("one ", "two ")
    Chat = owned_chat(database, provider=model)
    model.may.release()
    kept = []
    begin = EventStream.__init__
    monkeypatch.setattr(
        EventStream, "__init__", lambda self, stream: kept.append(self) or begin(self, stream)
    )

    async def scenario() -> None:
        gone = asyncio.Event()

        async def send(message: Any) -> None:
            if b"text_delta" in message.get("body", b""):
                gone.set()
                if how == "breaks":
                    raise OSError("the connection is gone")
                await asyncio.Event().wait()

        with contextlib.suppress(OSError, ExceptionGroup):
            await asyncio.wait_for(call(fastapi_app(Chat), send, gone), 20)
        assert Chat.get().status == "interrupted"
        assert model.is_closed.is_set()

    asyncio.run(scenario())
    (_, partial) = Chat.get_context(Chat.get().id, actor="ann").messages
    assert partial.text == "one "
    assert len(kept) == 1


def test_without_the_extra_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import agentsession.contrib.fastapi"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        "ImportError: agentsession.contrib.fastapi needs FastAPI: pip install 'agentsession[fastapi]'"
        in found.stderr
    )
