"""Both web frameworks behind one client, and models to talk to."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import flask
import httpx
import peewee as pw
from fastapi import FastAPI, Header

from agentsession import agent, agent_session
from agentsession.contrib.fastapi import session_router
from agentsession.contrib.flask import session_blueprint
from agentsession.provider import Delta, Reply
from tests.support.layouts import layout_of, with_messages

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}

ROUTES = [
    "POST /chats/",
    "GET /chats/",
    "POST /chats/stream",
    "GET /chats/{id}",
    "DELETE /chats/{id}",
    "POST /chats/{id}/messages",
    "POST /chats/{id}/messages/stream",
    "POST /chats/{id}/resume",
    "POST /chats/{id}/resume/stream",
    "POST /chats/{id}/cancel",
]
"""The routes of `owned_chat` under `/chats`, as OpenAPI has them."""

WAITING = [
    "GET /chats/{id}/approvals",
    "POST /chats/{id}/approvals",
]
"""The routes that exist beside them where a tool needs an approval."""


def owned_chat(database: Any, session: Any = None, key: Any = None, **options: Any) -> Any:
    """A model whose sessions have owners and times."""
    connection, field = database, key or pw.UUIDField(primary_key=True, default=uuid4)
    declared = {"status_attribute": "status", "updated_attribute": "updated", "owner_attribute": "owner"}
    declared |= layout_of(database) | (session or {})

    @agent_session(**declared)
    @agent(**({"client": "echo:", "instruction": "You help."} | options))
    class Chat(pw.Model):
        id = field
        owner = pw.CharField(default="")
        context = pw.JSONField(null=True)
        status = pw.CharField(default="pending")
        updated = pw.DateTimeField(null=True)

        class Meta:
            table_name = "chat"
            database = connection

    return with_messages(Chat)


@dataclass
class Answer:
    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def events(self) -> list[tuple[str, Any]]:
        return events(self.text)


def events(text: str) -> list[tuple[str, Any]]:
    """The events of an SSE body that are whole."""
    found = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        assert name.startswith("event: ")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def problem(answer: Any, status: int) -> str:
    """The title of a problem in the form of RFC 9457."""
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    shown = answer.json
    assert shown["status"] == status
    assert shown["type"] == f"urn:agentsession:{shown['title']}"
    assert shown.keys() - {"session"} == {"type", "title", "status", "detail"}
    for internal in ("Fix", "Why", "tests.", "pass {"):
        assert internal not in shown["detail"]
    return str(shown["title"])


class Web:
    """Requests to the routes of an app, by a user whom a header names."""

    def __init__(self, app: Any, ask: Callable[..., Answer]) -> None:
        self.app = app
        self.ask = ask

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        given = ANN | {name.replace("_", "-"): value for name, value in headers.items()}
        if body is None:
            return self.ask(method, path, b"", given)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask(method, path, content, {"Content-Type": "application/json"} | given)

    def begin(self, words: str = "Hello") -> str:
        answer = self("POST", "/", {"message": words})
        assert answer.status == 201, answer.text
        return str(answer.json["id"])


def user(x_user: str | None = Header(default=None)) -> str | None:
    return x_user


def flask_user() -> str | None:
    return flask.request.headers.get("X-User")


def fastapi_app(model: Any, **options: Any) -> Any:
    app = FastAPI()
    app.include_router(session_router(model, **({"actor": user} | options)), prefix="/chats")
    return app


def flask_app(model: Any, **options: Any) -> Any:
    app = flask.Flask("chat")
    given = {"actor": flask_user} | options
    app.register_blueprint(session_blueprint(model, url_prefix="/chats", **given))
    return app


def asgi_web(app: Any, root: str = "/chats") -> Web:
    async def whole(method: str, path: str, content: bytes, headers: Any) -> Answer:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test"
        ) as client:
            answer = await client.request(method, root + path, content=content, headers=headers)
            return Answer(answer.status_code, answer.headers, answer.text)

    return Web(app, lambda *given: asyncio.run(whole(*given)))


def wsgi_web(app: Any, root: str = "/chats") -> Web:
    app.testing = True

    def ask(method: str, path: str, content: bytes, headers: Any) -> Answer:
        with app.test_client().open(root + path, method=method, data=content, headers=headers) as answer:
            return Answer(answer.status_code, answer.headers, answer.text)

    return Web(app, ask)


def fastapi_web(model: Any, **options: Any) -> Web:
    return asgi_web(fastapi_app(model, **options))


def flask_web(model: Any, **options: Any) -> Web:
    return wsgi_web(flask_app(model, **options))


WEBS = {"fastapi": fastapi_web, "flask": flask_web}


class Says:
    """A model that answers with what it is given next, or raises it."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.asked = 0

    def ask(self, request: Any) -> Reply:
        self.asked += 1
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Reply(reply)


class Trickle:
    """A model that says these words, each when it may."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.may = threading.Semaphore(0)
        self.is_closed = threading.Event()

    def ask(self, request: Any) -> Reply:
        raise AssertionError("it is streamed")

    def stream(self, request: Any) -> Iterator[Delta | Reply]:
        try:
            for word in self.words:
                assert self.may.acquire(timeout=60)
                yield Delta(word)
            yield Reply("".join(self.words))
        finally:
            self.is_closed.set()

    async def astream(self, request: Any) -> AsyncIterator[Delta | Reply]:
        try:
            for word in self.words:
                while not self.may.acquire(blocking=False):
                    await asyncio.sleep(0.005)
                yield Delta(word)
            yield Reply("".join(self.words))
        finally:
            self.is_closed.set()
