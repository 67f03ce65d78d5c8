"""To delete a session."""

from __future__ import annotations

from typing import Any

import peewee

from agentsession._drive.async_bridge import run_on_store
from agentsession._store.connection import refuse_async
from agentsession._store.declared import Declared
from agentsession._store.identity import owner_of
from agentsession._store.session_row import SessionRow
from agentsession.actions.late_checks import refuse_altered
from agentsession.actions.variants import ASYNC, like


def delete_session(model: type[peewee.Model], session: Any, *, actor: Any = None) -> None:
    """Delete the session's row, with the whole conversation; rows of other tables that refer to it are yours.

    `session` is an id or a record. A turn that runs meanwhile ends with `SessionNotFound`, whose `.result` is
    the reply.

    Allowed inside a transaction. Raises `SessionNotFound`, also for a session of another `actor`, and
    `peewee.IntegrityError` where another table's rows stand against it.

    ```python
    from agentsession.actions import delete_session

    delete_session(ChatAgent, session.id)
    ```
    """
    doomed = _doomed(model, session, actor)
    refuse_async(doomed.declared, "delete_session")
    doomed.delete()


async def adelete_session(model: type[peewee.Model], session: Any, *, actor: Any = None) -> None:
    doomed = _doomed(model, session, actor)
    await run_on_store(doomed, doomed.delete)


adelete_session = like(delete_session, adelete_session, "adelete_session", ASYNC)


def _doomed(model: type[peewee.Model], session: Any, actor: Any) -> SessionRow:
    declared = Declared.of(model)
    refuse_altered(declared)
    return SessionRow(declared, session, owner_of(declared, actor))
