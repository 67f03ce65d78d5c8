"""The calls of a session that wait for somebody's approval, and what is decided about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import peewee

from agentsession import _clock, info
from agentsession._drive.async_bridge import run_on_store
from agentsession._json_values import JsonMap, compact, storable_text, unstorable
from agentsession._schema import SchemaMismatch
from agentsession._store.connection import refuse_async
from agentsession._store.declared import Declared
from agentsession._store.identity import primary_key_of
from agentsession._store.layout import NO_MESSAGES
from agentsession._store.session_store import StoredSession, open_session
from agentsession._turn.approvals import DecideCall, decide_call
from agentsession._turn_state import ApprovalState, Turn
from agentsession.actions.action import Action
from agentsession.actions.late_checks import refuse_altered
from agentsession.actions.results import context_of
from agentsession.actions.variants import ASYNC, like
from agentsession.errors import InputInvalid, NothingToApprove


@dataclass(frozen=True)
class Approval:
    """A call of a tool that waits for somebody. `call` is its key, `arguments` are those that the tool would
    be given.

    A decision is one write, allowed in any process and inside a transaction. Once all calls of the turn are
    decided, `resume_session` runs it on: the model is told of what was approved, edited or rejected.

    Each raises `NothingToApprove` where the call waits no more: decided in another way, its time over, its
    turn cancelled. The same decision may be made twice. `by` says who decides: a text, or a record.

    ```python
    for approval in session.approvals:
        print(approval.tool, approval.arguments)
        approval.approve(by="ann@example.com")
    if session.last_turn.status == "awaiting_approval":
        session.resume_session()
    ```
    """

    call: str
    tool: str
    arguments: JsonMap
    _asked: ApprovalState = field(repr=False, compare=False)
    _model: type[Any] = field(repr=False, compare=False)
    _session: Any = field(repr=False, compare=False)
    _actor: Any = field(repr=False, compare=False)

    def approve(self, *, by: Any = "") -> None:
        """Let the call be run as it is."""
        self._decided(_approved(by)).run()

    async def aapprove(self, *, by: Any = "") -> None:
        """`approve`, on an event loop."""
        await self._decided(_approved(by)).arun()

    def reject(self, reason: str | None = None, *, by: Any = "") -> None:
        """Have the call not run; the model is told, with the reason."""
        self._decided(self._rejected(reason, by)).run()

    async def areject(self, reason: str | None = None, *, by: Any = "") -> None:
        """`reject`, on an event loop."""
        await self._decided(self._rejected(reason, by)).arun()

    def edit(self, arguments: JsonMap, *, by: Any = "") -> None:
        """Let the call be run with these arguments instead; the model is told. Raises `InputInvalid` where
        they do not fit the tool."""
        self._decided(self._edited(arguments, by)).run()

    async def aedit(self, arguments: JsonMap, *, by: Any = "") -> None:
        """`edit`, on an event loop."""
        await self._decided(self._edited(arguments, by)).arun()

    def _decided(self, decision: DecideCall) -> Action[Any]:
        opened = _opened(self._model, self._session, self._actor)
        limit = opened.options.max_input_bytes
        size = len(msgspec.json.encode(decision(ApprovalState(self.call, self.tool, "{}"))))
        if size > limit:
            raise self._unfit(f"the decision takes {size:,} bytes, the limit is {limit:,}", "say less")
        return Action(opened.declared.agent, decide_call(self.call, decision), None, opened)

    def _rejected(self, reason: str | None, by: Any) -> DecideCall:
        if reason is not None and not isinstance(reason, str):
            raise self._unfit(f"the reason is of the type {type(reason).__name__}, not a text", "say why")
        return _changed(status="rejected", by=_name_of(by), reason=storable_text(reason or ""))

    def _edited(self, arguments: JsonMap, by: Any) -> DecideCall:
        tool = info.agent_options(self._model).tool_named(self.tool)
        if tool is None:
            raise self._unfit(f"the agent has no tool {self.tool!r} any more", "reject the call")
        try:
            unfit = next(unstorable(arguments), None)
            if unfit is not None or not isinstance(arguments, dict):
                raise ValueError(unfit or "they are no dict")
            text = compact(self._asked.merge_edited(arguments))
            tool.accept(text)
        except (SchemaMismatch, TypeError, ValueError) as error:
            names = ", ".join(f'"{name}": …' for name in tool.schema.get("properties", {}))
            raise self._unfit(
                f"the arguments do not fit {self.tool}: {error}", f"edit({{{names}}})"
            ) from error
        return _changed(status="approved", by=_name_of(by), edited=text)

    def _unfit(self, found: str, fix: str) -> InputInvalid:
        why = "the decision is stored with the turn, and the model is told of it; nothing was changed"
        return InputInvalid(found, where=f"{info.qualified_name(self._model)} approval", why=why, fix=fix)


def approvals(model: type[peewee.Model], session: Any, *, actor: Any = None) -> list[Approval]:
    """The calls of the session's latest turn that wait for somebody's approval, read anew from the row.

    `session` is an id or a record. Empty where none waits. Allowed inside a transaction. Raises
    `SessionNotFound`, also for a session of another `actor`, and `ContextUnreadable`.

    ```python
    from agentsession.actions import approvals

    for approval in approvals(ChatAgent, session.id):
        approval.reject("Not today.", by="ann@example.com")
    ```
    """
    opened = _opened(model, session, actor)
    refuse_async(opened.declared, "approvals")
    loaded = opened.load()
    return _waiting(model, session, actor, loaded.context.turn, loaded.now)


async def aapprovals(model: type[peewee.Model], session: Any, *, actor: Any = None) -> list[Approval]:
    opened = _opened(model, session, actor)
    loaded = await run_on_store(opened, opened.load)
    return _waiting(model, session, actor, loaded.context.turn, loaded.now)


aapprovals = like(approvals, aapprovals, "aapprovals", ASYNC)


def find_approval(model: type[peewee.Model], session: Any, call: str, *, actor: Any = None) -> Approval:
    """Return the approval of a call of the session's latest turn, also if it was decided before.

    A client whose response was lost repeats its decision. This function finds the call again; a decision
    other than the first raises `NothingToApprove`.

    Args:
        model: The session model.
        session: The id of the session, or its record.
        call: The key of the call, as in `Approval.call` and in the event `approval_needed`.
        actor: The owner of the session, if the model has an `owner_attribute`.

    Returns:
        The approval. Its methods store a decision.

    Raises:
        NothingToApprove: No approval of the latest turn has this key.
        SessionNotFound: There is no such session, or it is that of another `actor`.
        ContextUnreadable: The stored session is damaged.

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
    opened = _opened(model, session, actor)
    refuse_async(opened.declared, "find_approval")
    return _found(model, session, actor, opened.load().context.turn, call)


async def afind_approval(
    model: type[peewee.Model], session: Any, call: str, *, actor: Any = None
) -> Approval:
    """`find_approval`, on an event loop."""
    opened = _opened(model, session, actor)
    loaded = await run_on_store(opened, opened.load)
    return _found(model, session, actor, loaded.context.turn, call)


def approvals_of(record: Any) -> list[Approval]:
    """The calls that wait for somebody's approval, as the record was read; `actions.approvals` reads it anew.
    Costs no query."""
    owner = info.session_options(type(record)).owner_attribute
    actor = record.__data__.get(type(record)._meta.fields[owner].name) if owner else None
    return _waiting(type(record), record, actor, context_of(record).turn, _clock.seconds())


def _opened(model: type[Any], session: Any, actor: Any) -> StoredSession:
    declared = Declared.of(model)
    refuse_altered(declared)
    return open_session(declared, session, actor, NO_MESSAGES)


def approval_of(model: Any, session: Any, asked: ApprovalState, actor: Any) -> Approval:
    return Approval(asked.call, asked.tool, asked.parsed_arguments, asked, model, session, actor)


def _found(model: Any, session: Any, actor: Any, turn: Turn | None, call: str) -> Approval:
    asked = None if turn is None else turn.approval_of(call)
    if asked is None:
        raise NothingToApprove("no call of the latest turn with this key waits for an approval")
    return approval_of(model, session, asked, actor)


def _waiting(model: Any, session: Any, actor: Any, turn: Turn | None, now: float) -> list[Approval]:
    waiting = () if turn is None else turn.pending_approvals(now)
    return [approval_of(model, session, asked, actor) for asked in waiting]


def _approved(by: Any) -> DecideCall:
    return _changed(status="approved", by=_name_of(by))


def _changed(**values: str) -> Callable[[ApprovalState], ApprovalState]:
    return lambda asked: msgspec.structs.replace(asked, **values)


def _name_of(by: Any) -> str:
    """Who decides, as a text: a record is its key."""
    given = primary_key_of(type(by), by) if isinstance(by, peewee.Model) else by
    return "" if given is None else storable_text(str(given))
