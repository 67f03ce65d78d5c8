"""Sessions with tools, and the ways to run them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from agentsession import AgentSessionError, testing
from tests.support.models import chat_model

Way: TypeAlias = "Callable[..., tuple[Any, list[Any]]]"


def tooled(database: Any, *tools: Any, **options: Any) -> Any:
    """A session model with these tools."""
    return chat_model(database, tools=list(tools), **options)


def plain(Chat: Any, action: str, *args: Any) -> tuple[Any, list[Any]]:
    return getattr(Chat, action)(*args), []


def awaited(Chat: Any, action: str, *args: Any) -> tuple[Any, list[Any]]:
    return asyncio.run(getattr(Chat, f"a{action}")(*args)), []


def streamed(Chat: Any, action: str, *args: Any) -> tuple[Any, list[Any]]:
    with getattr(Chat, f"stream_{action}")(*args) as stream:
        return followed(stream, [*stream])


def astreamed(Chat: Any, action: str, *args: Any) -> tuple[Any, list[Any]]:
    async def follow() -> tuple[Any, list[Any]]:
        async with getattr(Chat, f"astream_{action}")(*args) as stream:
            return followed(stream, [event async for event in stream])

    return asyncio.run(follow())


def followed(stream: Any, events: list[Any]) -> tuple[Any, list[Any]]:
    return stream.session, events


WAYS: tuple[Way, ...] = (plain, awaited, streamed, astreamed)


def said(way: Way, Chat: Any, replies: Any, action: str = "start_session", *args: Any) -> Any:
    """The record after one turn, what the model was shown, the events, and the error if there was one."""
    with testing.script(Chat, replies) as asked:
        try:
            record, events = way(Chat, action, *(args or ("Hello!",)))
        except AgentSessionError as error:
            return error, asked, []
    return record, asked, events


def results(Chat: Any, session: Any) -> list[tuple[str, str]]:
    """Outcome and text of each stored result."""
    messages = Chat.get_context(session).messages
    return [(each.metadata["outcome"], each.text) for each in messages if each.role == "tool"]


def shown(prompt: Any) -> list[tuple[str, str]]:
    """Role and content of what the model is shown, without the instruction."""
    return [(message.role, message.content) for message in prompt if message.role != "system"]
