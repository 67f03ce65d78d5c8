"""Delete a session."""

from __future__ import annotations

from typing import Any

import peewee

from agentsession._drive.async_bridge import run_on_store
from agentsession._store.connection import refuse_async
from agentsession._store.declared import Declared
from agentsession._store.identity import owner_of
from agentsession._store.session_row import SessionRow
from agentsession.actions.late_checks import refuse_altered


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
    doomed = _doomed(model, session, actor)
    refuse_async(doomed.declared, "delete_session")
    doomed.delete()


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
    doomed = _doomed(model, session, actor)
    await run_on_store(doomed, doomed.delete)


def _doomed(model: type[peewee.Model], session: Any, actor: Any) -> SessionRow:
    declared = Declared.of(model)
    refuse_altered(declared)
    return SessionRow(declared, session, owner_of(declared, actor))
