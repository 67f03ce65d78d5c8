"""Cancel the open turn of a session."""

# The functions below are declarations: their decorator runs the action.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import Any

from agentsession._turn import machine
from agentsession.actions.action import Action
from agentsession.actions.prepare import M, checked_model, open_for_turn
from agentsession.actions.variants import awaited, blocking


def _prepare(model: type[M], session: Any, *, actor: Any = None) -> Action[M]:
    declared = checked_model(model)
    opened = open_for_turn(declared, session, actor)
    return Action(declared.agent, machine.cancel(), None, opened)


@blocking(_prepare)
def cancel_session(
    model: type[M],
    session: Any,
    *,
    actor: Any = None,
) -> M:
    """Cancel the open turn of a session.

    The turn is stored as `interrupted` at once, with the partial reply, whichever process runs it. Its
    stream notices within a third of the lease, its plain call when the model replies or times out; both
    raise `TurnCancelled` and store nothing more. `resume_session` can run the turn again. A turn that has
    ended stays as it is.

    Allowed inside a transaction.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.

    Returns:
        The record. `last_turn.status` says how the turn ended.

    Raises:
        SessionNotFound: No session has this id, or it belongs to another `actor`.
        NoResult: The session has no turn.
        ContextUnreadable: This version cannot read the stored context. Nothing is stored.

    Example:
        ```python
        from agentsession.actions import cancel_session

        session = cancel_session(ChatAgent, session.id)
        print(session.last_turn.status)
        ```
    """
    ...


@awaited(_prepare)
async def acancel_session(
    model: type[M],
    session: Any,
    *,
    actor: Any = None,
) -> M:
    """Cancel the open turn of a session on an event loop.

    As `cancel_session`. Allowed inside a transaction.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.

    Returns:
        The record. `last_turn.status` says how the turn ended.

    Raises:
        AgentSessionError: As `cancel_session`.

    Example:
        ```python
        from agentsession.actions import acancel_session

        session = await acancel_session(ChatAgent, session.id)
        print(session.last_turn.status)
        ```
    """
    ...
