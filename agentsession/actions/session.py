"""The actions of a session: start, continue, resume and cancel in each way that there is, and read."""

from __future__ import annotations

from typing import Any

import peewee

from agentsession import info
from agentsession.actions.intact import refuse_altered
from agentsession.actions.preparing import cancelling, continuing, resuming, starting
from agentsession.actions.ways import ASYNC, astreamed, awaited, like, plain, streamed
from agentsession.context import Context
from agentsession.drive.crossing import on_the_store
from agentsession.store.connection import refuse_async
from agentsession.store.document import DocumentSession
from agentsession.store.opened import open_session
from agentsession.store.record import primary_key_of

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


def get_context(model: type[peewee.Model], session: Any, *, actor: Any = None) -> Context:
    """The whole conversation as frozen, typed values, read anew from the row; nothing is changed.

    Allowed inside a transaction. A row that never had a turn gives an empty context. While a turn runs,
    `context.turn.partial` is what has come of its reply so far, if it is streamed.

    Raises `SessionNotFound`, also for a session of another `actor`, and `ContextUnreadable` for a stored
    value that is no context of ours.

    ```python
    for message in ChatAgent.get_context(session.id).messages:
        print(message.role, message.text)
    ```
    """
    opened = _opened(model, session, actor)
    refuse_async(model, "get_context")
    return opened.load().context


async def aget_context(model: type[peewee.Model], session: Any, *, actor: Any = None) -> Context:
    opened = _opened(model, session, actor)
    return (await on_the_store(opened, opened.load)).context


aget_context = like(get_context, aget_context, "aget_context", ASYNC)


def _opened(model: type[peewee.Model], session: Any, actor: Any) -> DocumentSession:
    refuse_altered(model)
    key = primary_key_of(model, session)
    return open_session(model, info.session_options(model), key, actor)
