"""A tool call that waits for an approval, and the decisions about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import peewee

from agentsession import info
from agentsession._json_values import JsonMap, compact, storable_text, unstorable
from agentsession._schema import SchemaMismatch
from agentsession._store.identity import primary_key_of
from agentsession._turn.approvals import DecideCall, store_decision
from agentsession._turn_state import ApprovalState
from agentsession.actions.action import Action
from agentsession.actions.prepare import open_without_messages
from agentsession.errors import InputInvalid


@dataclass(frozen=True)
class Approval:
    """A tool call that waits for an approval.

    A decision is one write. It is allowed in any process, and inside a transaction. `resume_session`
    continues the turn once all its calls are decided; the model sees which were approved, edited or
    rejected. The same decision may be made twice. Every decision raises `NothingToApprove` if the call does
    not wait any more: it was decided in another way, its time is over, or its turn was cancelled.

    Attributes:
        call: The key of the call.
        tool: The name of the tool.
        arguments: The arguments that the tool would receive.

    Example:
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
    _state: ApprovalState = field(repr=False, compare=False)
    _model: type[Any] = field(repr=False, compare=False)
    _session: Any = field(repr=False, compare=False)
    _actor: Any = field(repr=False, compare=False)

    def approve(self, *, by: Any = "") -> None:
        """Store that the call may run.

        Args:
            by: The person who decides: a text, or a record, of which the key is stored.

        Raises:
            NothingToApprove: The call does not wait any more. Nothing is stored.

        Example:
            ```python
            for approval in session.approvals:
                approval.approve(by="ann@example.com")
            ```
        """
        self._decided(_approved(by)).run()

    async def aapprove(self, *, by: Any = "") -> None:
        """Store that the call may run, on an event loop.

        As `approve`.

        Args:
            by: The person who decides: a text, or a record, of which the key is stored.

        Example:
            ```python
            for approval in session.approvals:
                await approval.aapprove(by="ann@example.com")
            ```
        """
        await self._decided(_approved(by)).arun()

    def reject(self, reason: str | None = None, *, by: Any = "") -> None:
        """Store that the call must not run. The model sees that it was rejected, and the reason.

        Args:
            reason: A text for the model.
            by: The person who decides: a text, or a record, of which the key is stored.

        Raises:
            NothingToApprove: The call does not wait any more. Nothing is stored.
            InputInvalid: The reason is not a text, or is too long. Nothing is stored.

        Example:
            ```python
            for approval in session.approvals:
                approval.reject("Not today.", by="ann@example.com")
            ```
        """
        self._decided(self._rejected(reason, by)).run()

    async def areject(self, reason: str | None = None, *, by: Any = "") -> None:
        """Store that the call must not run, on an event loop.

        As `reject`.

        Args:
            reason: A text for the model.
            by: The person who decides: a text, or a record, of which the key is stored.

        Example:
            ```python
            for approval in session.approvals:
                await approval.areject("Not today.", by="ann@example.com")
            ```
        """
        await self._decided(self._rejected(reason, by)).arun()

    def edit(self, arguments: JsonMap, *, by: Any = "") -> None:
        """Store that the call may run with other arguments. The model sees the edited arguments.

        Args:
            arguments: All arguments of the tool, by their names.
            by: The person who decides: a text, or a record, of which the key is stored.

        Raises:
            NothingToApprove: The call does not wait any more. Nothing is stored.
            InputInvalid: The arguments do not fit the tool. Nothing is stored.

        Example:
            ```python
            for approval in session.approvals:
                approval.edit({**approval.arguments, "amount": 5}, by="ann@example.com")
            ```
        """
        self._decided(self._edited(arguments, by)).run()

    async def aedit(self, arguments: JsonMap, *, by: Any = "") -> None:
        """Store that the call may run with other arguments, on an event loop.

        As `edit`.

        Args:
            arguments: All arguments of the tool, by their names.
            by: The person who decides: a text, or a record, of which the key is stored.

        Example:
            ```python
            for approval in session.approvals:
                await approval.aedit({**approval.arguments, "amount": 5}, by="ann@example.com")
            ```
        """
        await self._decided(self._edited(arguments, by)).arun()

    def _decided(self, decision: DecideCall) -> Action[Any]:
        opened = open_without_messages(self._model, self._session, self._actor)
        limit = opened.options.max_input_bytes
        size = len(msgspec.json.encode(decision(ApprovalState(self.call, self.tool, "{}"))))
        if size > limit:
            raise self._unfit(f"the decision takes {size:,} bytes, the limit is {limit:,}", "say less")
        return Action(opened.declared.agent, store_decision(self.call, decision), None, opened)

    def _rejected(self, reason: str | None, by: Any) -> DecideCall:
        if reason is not None and not isinstance(reason, str):
            raise self._unfit(f"the reason is of the type {type(reason).__name__}, not a text", "say why")
        return _with(status="rejected", by=_name_of(by), reason=storable_text(reason or ""))

    def _edited(self, arguments: JsonMap, by: Any) -> DecideCall:
        tool = info.agent_options(self._model).tool_named(self.tool)
        if tool is None:
            raise self._unfit(f"the agent has no tool {self.tool!r} any more", "reject the call")
        try:
            unfit = next(unstorable(arguments), None)
            if unfit is not None or not isinstance(arguments, dict):
                raise ValueError(unfit or "they are not a dict")
            text = compact(self._state.merge_edited(arguments))
            tool.accept(text)
        except (SchemaMismatch, TypeError, ValueError) as error:
            names = ", ".join(f'"{name}": …' for name in tool.schema.get("properties", {}))
            raise self._unfit(
                f"the arguments do not fit {self.tool}: {error}", f"edit({{{names}}})"
            ) from error
        return _with(status="approved", by=_name_of(by), edited=text)

    def _unfit(self, found: str, fix: str) -> InputInvalid:
        why = "the decision is stored with the turn, and the model sees it; nothing was changed"
        return InputInvalid(found, where=f"{info.qualified_name(self._model)} approval", why=why, fix=fix)


def approval_of(model: Any, session: Any, state: ApprovalState, actor: Any) -> Approval:
    """Return a stored approval as a value that can decide about it."""
    return Approval(state.call, state.tool, state.parsed_arguments, state, model, session, actor)


def _approved(by: Any) -> DecideCall:
    return _with(status="approved", by=_name_of(by))


def _with(**values: str) -> Callable[[ApprovalState], ApprovalState]:
    return lambda state: msgspec.structs.replace(state, **values)


def _name_of(by: Any) -> str:
    """Return the text that is stored for a person: of a record, its key."""
    key = primary_key_of(type(by), by) if isinstance(by, peewee.Model) else by
    return "" if key is None else storable_text(str(key))
