"""The actions of a session: start, continue, resume and cancel in each way that there is, and read."""

from __future__ import annotations

from typing import Any

import msgspec
import peewee

from agentsession._drive.async_bridge import run_on_store
from agentsession._store.connection import refuse_async
from agentsession._store.declared import Declared
from agentsession._store.identity import primary_key_of
from agentsession._store.layout import Selection
from agentsession._store.session_store import StoredSession, open_session
from agentsession._turn.effects import Loaded
from agentsession.actions.late_checks import refuse_altered
from agentsession.actions.prepare import cancelling, continuing, resuming, starting
from agentsession.actions.variants import ASYNC, astreamed, awaited, like, plain, streamed
from agentsession.context import Context
from agentsession.errors import InputInvalid

start_session = plain(starting, "start_session")
astart_session = awaited(starting, "astart_session")
stream_start_session = streamed(starting, "stream_start_session")
astream_start_session = astreamed(starting, "astream_start_session")

continue_session = plain(continuing, "continue_session")
acontinue_session = awaited(continuing, "acontinue_session")
stream_continue_session = streamed(continuing, "stream_continue_session")
astream_continue_session = astreamed(continuing, "astream_continue_session")

resume_session = plain(resuming, "resume_session")
aresume_session = awaited(resuming, "aresume_session")
stream_resume_session = streamed(resuming, "stream_resume_session")
astream_resume_session = astreamed(resuming, "astream_resume_session")

cancel_session = plain(cancelling, "cancel_session")
acancel_session = awaited(cancelling, "acancel_session")


LARGEST = 2**31
"""More messages than a conversation has."""


def get_context(
    model: type[peewee.Model],
    session: Any,
    *,
    last: int | None = None,
    before: int | None = None,
    actor: Any = None,
) -> Context:
    """The conversation as frozen, typed values, read anew from the row; nothing is changed.

    `last` gives a page: the last so many messages; with `before`, a position, of those that stand before it.
    `context.first` is the position of the page's first message, `context.count` the number of all. From a
    model with `messages="rows"` no more than the page is read.

    Allowed inside a transaction. A row that never had a turn gives an empty context. While a turn runs,
    `context.turn.partial` is the partial reply, if the turn is streamed. A turn whose process died is
    `interrupted` once its lease is over by the database's clock, and `context.turn.is_abandoned` is true.

    Raises `SessionNotFound`, also for a session of another `actor`, `InputInvalid` for a page that is none,
    `LayoutMismatch`, and `ContextUnreadable` for a stored value that is no context of ours.

    ```python
    for message in ChatAgent.get_context(session.id).messages:
        print(message.role, message.text)

    page = ChatAgent.get_context(session.id, last=50)
    while page.first > 0:
        page = ChatAgent.get_context(session.id, last=50, before=page.first)
    ```
    """
    opened = _opened(model, session, last, before, actor)
    refuse_async(opened.declared, "get_context")
    return _as_read(opened.load())


async def aget_context(
    model: type[peewee.Model],
    session: Any,
    *,
    last: int | None = None,
    before: int | None = None,
    actor: Any = None,
) -> Context:
    opened = _opened(model, session, last, before, actor)
    return _as_read(await run_on_store(opened, opened.load))


aget_context = like(get_context, aget_context, "aget_context", ASYNC)


def _as_read(loaded: Loaded) -> Context:
    """What was read, with the status that its turn has by the database's clock."""
    context = loaded.context
    turn = None if context.turn is None else context.turn.as_of(loaded.now)
    return msgspec.structs.replace(context, turn=turn)


def _opened(
    model: type[peewee.Model], session: Any, last: int | None, before: int | None, actor: Any
) -> StoredSession:
    declared = Declared.of(model)
    refuse_altered(declared)
    for name, number, least in (("last", last, 1), ("before", before, 0)):
        is_whole = isinstance(number, int) and not isinstance(number, bool)
        if number is not None and not (is_whole and least <= number < LARGEST):
            raise InputInvalid(
                f"{name} is {number!r}, not a whole number from {least}",
                where=f"{declared.name} get_context",
                why="a page is so many messages before a position",
                fix="get_context(id, last=50), then get_context(id, last=50, before=page.first)",
            )
    key = primary_key_of(model, session)
    return open_session(declared, key, actor, Selection(last=last, before=before, only_to_read=True))
