"""The sessions that there are, page by page."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import peewee

from agentsession import info
from agentsession._drive.async_bridge import run_on_store
from agentsession._store.connection import refuse_async
from agentsession._store.declared import Declared
from agentsession._store.identity import owner_of
from agentsession._store.listing import Cursor, ListedRow, SessionList
from agentsession.actions.late_checks import refuse_altered
from agentsession.actions.variants import ASYNC, like
from agentsession.errors import InputInvalid

MAX_PAGE = 1_000


@dataclass(frozen=True)
class ListedSession:
    """`updated` is the time of the last activity, in UTC without a zone, None where there was none; `status`
    is None where the model has no `status_attribute`, and `interrupted` where the column says `running` and
    the lease of the turn is over."""

    id: Any
    status: str | None
    updated: datetime | None


@dataclass(frozen=True)
class SessionPage:
    """`next` is the `before` of the page that follows, None on the last."""

    sessions: tuple[ListedSession, ...]
    next: str | None


def list_sessions(
    model: type[peewee.Model], *, actor: Any = None, limit: int = 20, before: str | None = None
) -> SessionPage:
    """The sessions by their last activity, the newest first: `limit` of them, from 1 to 1000. Of the
    contexts nothing is read but the leases of running turns, and nothing is changed.

    The model needs an `updated_attribute`. Where it has an `owner_attribute`, the sessions of `actor` are
    there; where it has none, all are. `before` is the `next` of the page before. A session that goes on while
    you turn the pages moves to the front of the first one; none is shown twice.

    Allowed inside a transaction. Raises `InputInvalid`.

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
    return _page(found.page(limit + 1, _before(found, before)), limit)


async def alist_sessions(
    model: type[peewee.Model], *, actor: Any = None, limit: int = 20, before: str | None = None
) -> SessionPage:
    found = _listed(model, actor, limit)
    read = partial(found.page, limit + 1, _before(found, before))
    return _page(await run_on_store(found, read), limit)


alist_sessions = like(list_sessions, alist_sessions, "alist_sessions", ASYNC)


def _listed(model: type[peewee.Model], actor: Any, limit: int) -> SessionList:
    declared = Declared.of(model)
    refuse_altered(declared)
    updated = declared.options.updated_attribute
    if updated is None:
        found, fix = "the model has no updated_attribute", '@agent_session(updated_attribute="updated")'
        raise _invalid(model, "updated_attribute", found, fix)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        raise _invalid(model, "limit", f"limit is no number from 1 to {MAX_PAGE}", "pass limit=20")
    return SessionList(declared, updated, owner_of(declared, actor))


def _page(rows: list[ListedRow], limit: int) -> SessionPage:
    """One row more was read than there are on a page, to know whether another follows."""
    shown = rows[:limit]
    following = _cursor(Cursor(shown[-1].updated, shown[-1].key)) if len(rows) > limit else None
    return SessionPage(tuple(ListedSession(*row) for row in shown), following)


def _cursor(end: Cursor) -> str:
    return urlsafe_b64encode(msgspec.json.encode(end, enc_hook=str)).decode().rstrip("=")


def _before(found: SessionList, before: str | None) -> Cursor | None:
    if before is None:
        return None
    try:
        text = urlsafe_b64decode(before + "=" * (-len(before) % 4))
        updated, key = msgspec.json.decode(text, type=tuple[datetime | None, Any])
        return found.cursor(updated, key)
    except (TypeError, ValueError, msgspec.MsgspecError):
        fix = "pass the `next` of the page before"
        raise _invalid(found.model, "before", "before is not the end of a page", fix) from None


def _invalid(model: type[peewee.Model], argument: str, found: str, fix: str) -> InputInvalid:
    why = "the page cannot be told; nothing was read"
    return InputInvalid(found, where=f"{info.qualified_name(model)} {argument}", why=why, fix=fix)
