"""Find the tool calls of a session that wait for an approval."""

from __future__ import annotations

from typing import Any

import peewee

from agentsession import _clock, info
from agentsession._store.declared import refuse_async, run_on_store
from agentsession._turn_state import Turn
from agentsession.actions.approval import Approval, approval_of
from agentsession.actions.prepare import open_without_messages
from agentsession.actions.read import context_of
from agentsession.errors import NothingToApprove


def approvals(model: type[peewee.Model], session: Any, *, actor: Any = None) -> list[Approval]:
    """Return the tool calls of the latest turn that wait for an approval, read anew from the row.

    Allowed inside a transaction. `record.approvals` runs no query.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.

    Returns:
        The calls, in the order in which the model asked for them. Empty if no call waits.

    Raises:
        SessionNotFound: No session has this id, or it belongs to another `actor`.
        ContextUnreadable: This version cannot read the stored context.

    Example:
        ```python
        from agentsession.actions import approvals

        for approval in approvals(ChatAgent, session.id):
            approval.reject("Not today.", by="ann@example.com")
        ```
    """
    opened = open_without_messages(model, session, actor)
    refuse_async(opened.declared, "approvals")
    loaded = opened.load()
    return _waiting(model, session, actor, loaded.context.turn, loaded.now)


async def aapprovals(model: type[peewee.Model], session: Any, *, actor: Any = None) -> list[Approval]:
    """Return the tool calls of the latest turn that wait for an approval, on an event loop.

    As `approvals`.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.

    Returns:
        The calls, in the order in which the model asked for them. Empty if no call waits.

    Raises:
        AgentSessionError: As `approvals`.

    Example:
        ```python
        from agentsession.actions import aapprovals

        for approval in await aapprovals(ChatAgent, session.id):
            await approval.areject("Not today.", by="ann@example.com")
        ```
    """
    opened = open_without_messages(model, session, actor)
    loaded = await run_on_store(opened, opened.load)
    return _waiting(model, session, actor, loaded.context.turn, loaded.now)


def find_approval(model: type[peewee.Model], session: Any, call: str, *, actor: Any = None) -> Approval:
    """Return the approval of a call of the session's latest turn, also if it was decided before.

    A client whose response was lost repeats its decision. This function finds the call again; a decision
    other than the first raises `NothingToApprove`. Allowed inside a transaction.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        call: The key of the call, as in `Approval.call` and in the event `approval_needed`.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.

    Returns:
        The approval. Its methods store a decision.

    Raises:
        NothingToApprove: No approval of the latest turn has this key.
        SessionNotFound: No session has this id, or it belongs to another `actor`.
        ContextUnreadable: This version cannot read the stored context.

    Example:
        ```python
        from agentsession import NothingToApprove
        from agentsession.actions import find_approval

        try:
            find_approval(ChatAgent, session.id, "9f02c1:0:0").approve(by="ann@example.com")
        except NothingToApprove as error:
            print(error)
        ```
    """
    opened = open_without_messages(model, session, actor)
    refuse_async(opened.declared, "find_approval")
    return _found(model, session, actor, opened.load().context.turn, call)


async def afind_approval(
    model: type[peewee.Model], session: Any, call: str, *, actor: Any = None
) -> Approval:
    """Return the approval of a call of the session's latest turn, on an event loop.

    As `find_approval`.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        call: The key of the call, as in `Approval.call` and in the event `approval_needed`.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.

    Returns:
        The approval. Its methods store a decision.

    Raises:
        AgentSessionError: As `find_approval`.

    Example:
        ```python
        from agentsession import NothingToApprove
        from agentsession.actions import afind_approval

        try:
            approval = await afind_approval(ChatAgent, session.id, "9f02c1:0:0")
            await approval.aapprove(by="ann@example.com")
        except NothingToApprove as error:
            print(error)
        ```
    """
    opened = open_without_messages(model, session, actor)
    loaded = await run_on_store(opened, opened.load)
    return _found(model, session, actor, loaded.context.turn, call)


def approvals_of(record: Any) -> list[Approval]:
    """Return the calls that wait for an approval, as the record was read. Run no query."""
    owner = info.session_options(type(record)).owner_attribute
    actor = record.__data__.get(type(record)._meta.fields[owner].name) if owner else None
    return _waiting(type(record), record, actor, context_of(record).turn, _clock.seconds())


def _found(model: Any, session: Any, actor: Any, turn: Turn | None, call: str) -> Approval:
    state = None if turn is None else turn.approval_of(call)
    if state is None:
        raise NothingToApprove("no call of the latest turn with this key waits for an approval")
    return approval_of(model, session, state, actor)


def _waiting(model: Any, session: Any, actor: Any, turn: Turn | None, now: float) -> list[Approval]:
    waiting = () if turn is None else turn.pending_approvals(now)
    return [approval_of(model, session, state, actor) for state in waiting]
