"""Sessions on the asynchronous databases of Peewee: each test has an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from agentsession._store.declared import Declared
from agentsession._store.new_session import NewSession, new_session
from agentsession._store.session_store import StoredSession, open_session
from agentsession._turn.effects import Change
from agentsession._turn_state import Turn
from agentsession.context import Message
from tests.support import servers
from tests.support.models import chat_model

T = TypeVar("T")

ODD = "hé \U0001f600 \u2028 %s %% $1 ' \" \\ {{x}}"


def run(url: str, scenario: Callable[[Any], Awaitable[T]], pool_size: int = 1) -> T:
    """What the scenario returns on a database of the place; a connection that it leaks is soon missed."""

    async def whole() -> T:
        db = servers.open_async_database(url, pool_size)
        db.url = url
        try:
            return await asyncio.wait_for(scenario(db), 60)
        finally:
            await db.close_pool()

    return asyncio.run(whole())


def change(number: int = 1, words: str = ODD, *, status: str = "running", **more: Any) -> Change:
    """A turn under the claim "mine", with one message."""
    message = Message(f"{number}:0", f"{number}", "user", words, {"odd": [ODD, {"deep": [None, 0.1, 2**60]}]})
    turn = Turn(id=str(number), status=status, claim="mine", until=2e9)
    return Change(turn, (message,), **more)


def opened(Chat: Any, session: Any, actor: Any = None) -> StoredSession:
    return open_session(Declared.of(Chat), session, actor)


def new(Chat: Any, attributes: Any = None, actor: Any = None, key: str | None = None) -> NewSession:
    return new_session(Declared.of(Chat), attributes, actor, key)


async def stored_session(db: Any, Chat: Any = None, **options: Any) -> Any:
    """A stored session, opened by its id and read as by another process."""
    Chat = Chat or await db.run(chat_model, db)
    session = new(Chat, **options)
    assert await db.run(session.insert, change())
    return await read_again(db, session, options.get("actor"))


async def read_again(db: Any, session: StoredSession, actor: Any = None) -> StoredSession:
    """The session as another process sees it, before it writes."""
    again = opened(session.model, session.key, actor)
    await db.run(again.load)
    return again
