"""Keys that must be seen nowhere, and all that an error tracker sees of an error.

No function here has a key in a variable, and no line has a whole one: trackers show these frames, too.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import peewee as pw

from agentsession import agent, agent_session

PARTS = ("declared", "header", "given", "chosen")


def key(part: str) -> str:
    return "-".join(("canary", part, "0f1e2d3c"))


def declared(**more: Any) -> dict[str, Any]:
    """The client's options in the decorator."""
    return {"api_key": key("declared"), "extra_headers": {"x-tenant-key": key("header")}, **more}


def given() -> dict[str, Any]:
    """The client's options of one action."""
    return {"client_options": {"metadata": {"token": key("given")}}}


def keys_in(text: str) -> list[str]:
    return [part for part in PARTS if key(part) in text]


def links_of(error: BaseException) -> list[BaseException]:
    """The error, and every error that can be reached from it."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and not any(link is other for other in found):
            found.append(link)
            waiting += [link.__cause__, link.__context__]
    return found


def captured(error: BaseException) -> str:
    """Each link of an error as text, with the variables of its frames."""
    shown: list[str] = []
    for link in links_of(error):
        told = traceback.TracebackException(type(link), link, link.__traceback__, capture_locals=True)
        shown += [*told.format(chain=False), repr(link), repr(vars(link))]
    return "".join(shown)


def running() -> str:
    """The frames of this package that run now on this thread, with their variables."""
    stack = traceback.walk_stack(None)
    ours = (each for each in stack if each[0].f_globals["__name__"].startswith("agentsession."))
    return "".join(traceback.StackSummary.extract(ours, capture_locals=True).format())


def model_of(client: str = "openai:gpt-4o", *, database: Any = None, more: Any = None, **options: Any) -> Any:
    """An agent whose client has keys; with a database, a session of it."""

    class Keyed(*([pw.Model] if database else [])):  # type: ignore[misc]
        context = pw.JSONField(null=True)

        class Meta:
            pass

    model: Any = Keyed
    if database:
        model._meta.set_database(database)
    model = agent(client=(client, declared(**(more or {}))), instruction="Hi", **options)(model)
    if database:
        model = agent_session(model)
        database.create_tables([model])
    return model


def _plain(action: Callable[..., Any], *args: Any) -> None:
    action(*args, **given())


def _stream(action: Callable[..., Any], *args: Any) -> None:
    for _ in action(*args, **given()):
        pass


def _awaited(action: Callable[..., Any], *args: Any) -> None:
    async def act() -> None:
        await action(*args, **given())

    asyncio.run(act())


def _astream(action: Callable[..., Any], *args: Any) -> None:
    async def follow() -> None:
        async for _ in action(*args, **given()):
            pass

    asyncio.run(follow())


WAYS: dict[str, tuple[str, Callable[..., None]]] = {
    "call": ("call", _plain),
    "acall": ("acall", _awaited),
    "stream": ("stream", _stream),
    "astream": ("astream", _astream),
}
"""Each way to ask: the action without a session, and how it is run to its end."""

SESSION_WAYS: dict[str, tuple[str, Callable[..., None]]] = {
    "plain": ("", _plain),
    "awaited": ("a", _awaited),
    "stream": ("stream_", _stream),
    "astream": ("astream_", _astream),
}
"""Each way to run an action of a session: the prefix of its name, and how it is run to its end."""
