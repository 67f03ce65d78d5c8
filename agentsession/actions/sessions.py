"""List the sessions of a model, page by page, and delete one."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import peewee

from agentsession import info
from agentsession._store.declared import refuse_async, run_on_store
from agentsession._store.identity import owner_of
from agentsession._store.listing import Cursor, ListedRow, SessionList
from agentsession._store.session_row import SessionRow
from agentsession.actions.prepare import checked_model
from agentsession.errors import InputInvalid

MAX_PAGE = 1_000


@dataclass(frozen=True)
class ListedSession:
    """A session in a list.

    Attributes:
        id: The primary key.
        status: The status of the latest turn. `interrupted` if the column says `running` and the lease of the
            turn is over. None if the model has no `status_attribute`.
        updated: The time of the last activity, in UTC without a zone. None before the first turn.
    """

    id: Any
    status: str | None
    updated: datetime | None


@dataclass(frozen=True)
class SessionPage:
    """A page of a list of sessions.

    Attributes:
        sessions: The sessions, the newest activity first.
        next: The `before` of the next page. None on the last page.
    """

    sessions: tuple[ListedSession, ...]
    next: str | None


def list_sessions(
    model: type[peewee.Model], *, actor: Any = None, limit: int = 20, before: str | None = None
) -> SessionPage:
    """Return a page of the sessions of a model, the newest activity first.

    Nothing is changed. Of the contexts only the leases of running turns are read. A session that continues
    while you turn the pages moves to the front of the first page; no session is listed twice. Allowed inside
    a transaction.

    Args:
        model: The class with `@agent_session`. It has an `updated_attribute`.
        actor: The owner whose sessions are listed, for a model with `owner_attribute`.
        limit: The number of sessions of a page, from 1 to 1000.
        before: The `next` of the previous page. None begins with the first page.

    Returns:
        The page.

    Raises:
        InputInvalid: The model has no `updated_attribute`, or an argument does not fit.

    Example:
        ```python
        from agentsession.actions import list_sessions

        page = list_sessions(ChatAgent, limit=50)
        for listed in page.sessions:
            print(listed.id, listed.status, listed.updated)
        if page.next:
            page = list_sessions(ChatAgent, limit=50, before=page.next)
        ```
    """
    found = _listed(model, actor, limit)
    refuse_async(found.declared, "list_sessions")
    return _page(found.page(limit + 1, _cursor(found, before)), limit)


async def alist_sessions(
    model: type[peewee.Model], *, actor: Any = None, limit: int = 20, before: str | None = None
) -> SessionPage:
    """Return a page of the sessions of a model, on an event loop.

    As `list_sessions`.

    Args:
        model: The class with `@agent_session`. It has an `updated_attribute`.
        actor: The owner whose sessions are listed, for a model with `owner_attribute`.
        limit: The number of sessions of a page, from 1 to 1000.
        before: The `next` of the previous page. None begins with the first page.

    Returns:
        The page.

    Raises:
        AgentSessionError: As `list_sessions`.

    Example:
        ```python
        from agentsession.actions import alist_sessions

        page = await alist_sessions(ChatAgent, limit=50)
        print([listed.id for listed in page.sessions])
        ```
    """
    found = _listed(model, actor, limit)
    read = partial(found.page, limit + 1, _cursor(found, before))
    return _page(await run_on_store(found, read), limit)


def delete_session(model: type[peewee.Model], session: Any, *, actor: Any = None) -> None:
    """Delete a session: its row, and the rows of its messages.

    Rows of other tables that refer to it are left to the caller. A turn that runs meanwhile ends with
    `SessionNotFound`, whose `.result` is the reply. Allowed inside a transaction.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.

    Raises:
        SessionNotFound: No session has this id, or it belongs to another `actor`.
        peewee.IntegrityError: Rows of another table refer to the session.

    Example:
        ```python
        from agentsession.actions import delete_session

        delete_session(ChatAgent, session.id)
        ```
    """
    row = _row_to_delete(model, session, actor)
    refuse_async(row.declared, "delete_session")
    row.delete()


async def adelete_session(model: type[peewee.Model], session: Any, *, actor: Any = None) -> None:
    """Delete a session on an event loop: its row, and the rows of its messages.

    As `delete_session`.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.

    Raises:
        AgentSessionError: As `delete_session`.

    Example:
        ```python
        from agentsession.actions import adelete_session

        await adelete_session(ChatAgent, session.id)
        ```
    """
    row = _row_to_delete(model, session, actor)
    await run_on_store(row, row.delete)


def _listed(model: type[peewee.Model], actor: Any, limit: int) -> SessionList:
    declared = checked_model(model)
    updated = declared.options.updated_attribute
    if updated is None:
        found, fix = "the model has no updated_attribute", '@agent_session(updated_attribute="updated")'
        raise _invalid(model, "updated_attribute", found, fix)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        raise _invalid(model, "limit", f"limit is not a number from 1 to {MAX_PAGE}", "pass limit=20")
    return SessionList(declared, updated, owner_of(declared, actor))


def _page(rows: list[ListedRow], limit: int) -> SessionPage:
    """Return the page of the first `limit` rows. One row more was read: it says whether a page follows."""
    listed = rows[:limit]
    following = _text_of(Cursor(listed[-1].updated, listed[-1].key)) if len(rows) > limit else None
    return SessionPage(tuple(ListedSession(*row) for row in listed), following)


def _text_of(cursor: Cursor) -> str:
    return urlsafe_b64encode(msgspec.json.encode(cursor, enc_hook=str)).decode().rstrip("=")


def _cursor(found: SessionList, before: str | None) -> Cursor | None:
    """Return the end of the previous page, or raise `InputInvalid` for a text that is not one."""
    if before is None:
        return None
    try:
        text = urlsafe_b64decode(before + "=" * (-len(before) % 4))
        updated, key = msgspec.json.decode(text, type=tuple[datetime | None, Any])
        return found.cursor(updated, key)
    except (TypeError, ValueError, msgspec.MsgspecError):
        fix = "pass the `next` of the previous page"
        raise _invalid(found.model, "before", "before is not the `next` of a page", fix) from None


def _invalid(model: type[peewee.Model], argument: str, found: str, fix: str) -> InputInvalid:
    why = "the page cannot be determined; nothing was read"
    return InputInvalid(found, where=f"{info.qualified_name(model)} {argument}", why=why, fix=fix)


def _row_to_delete(model: type[peewee.Model], session: Any, actor: Any) -> SessionRow:
    declared = checked_model(model)
    return SessionRow(declared, session, owner_of(declared, actor))
