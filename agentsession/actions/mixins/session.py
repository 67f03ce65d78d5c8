"""The mixin of a model with `@agent_session`, and the guarded `save` of its records."""

# The methods below that have no body are declarations: their decorator calls the action.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from agentsession import info
from agentsession._store.record import unmanaged_fields
from agentsession._turn_state import Turn
from agentsession.actions import cancel, read
from agentsession.actions.approval import Approval
from agentsession.actions.approvals import approvals_of
from agentsession.actions.mixins.agent import AgentActions
from agentsession.actions.mixins.continue_ import ContinueMethods
from agentsession.actions.mixins.method_types import In, Out, two_forms, two_forms_awaited, two_forms_read
from agentsession.actions.mixins.resume import ResumeMethods
from agentsession.actions.mixins.start import StartMethods
from agentsession.context import Context, Result


class GuardedSave:
    """The `save` of a session's record. It leaves the managed attributes to the library."""

    def save(self, force_insert: bool = False, only: Iterable[Any] | None = None, **more: Any) -> Any:
        """Store the record's own columns.

        As `peewee.Model.save`, but an update leaves out the context, status and updated attributes, because a
        copy that was read earlier would overwrite a newer turn.

        Args:
            force_insert: True inserts a row that has its key already.
            only: The fields to store. None stores the changed ones.
            more: Further keywords of the `save` of another base.

        Returns:
            What `peewee.Model.save` returns: the number of changed rows.

        Raises:
            ManagedField: A managed attribute was assigned, or changed in place. Nothing is written.

        Example:
            ```python
            session.title = "Capitals"
            session.save()
            ```
        """
        record: Any = self
        parent: Any = super()
        if force_insert or record._pk is None:
            return parent.save(force_insert=force_insert, only=only, **more)
        options = info.session_options(type(self))
        fields = unmanaged_fields(record, options, only)
        if only is None and record._meta.only_save_dirty:
            record._dirty.difference_update(options.managed)
            return parent.save(**more)
        if not any(field.name in record.__data__ and not field.primary_key for field in fields):
            return 0
        return parent.save(only=fields, **more)


class SessionActions(
    GuardedSave, StartMethods[In], ContinueMethods[In], ResumeMethods, AgentActions[In, Out]
):
    """The methods of a session, for a Peewee model with `@agent_session`.

    `SessionActions[Ask, Answer]` types the input and the output, and declares both as the schemas unless
    `@agent` does. The decorator adds this mixin to a model that lacks it; type checkers cannot see that.

    Example:
        ```python
        @agent_session
        @agent(client="echo:", instruction="You help.")
        class HelpDesk(SessionActions[str, str], peewee.Model):
            context = peewee.JSONField(null=True)

            class Meta:
                database = db


        HelpDesk.create_table()
        print(HelpDesk.start_session("Hello").last_result.output)
        ```
    """

    @two_forms(cancel.cancel_session)
    def cancel_session(
        self,
        *,
        actor: Any = None,
    ) -> Self:
        """Cancel the open turn of a session.

        The turn is stored as `interrupted` at once, with the partial reply, whichever process runs it. Its
        stream notices within a third of the lease, its plain call when the model replies or times out; both
        raise `TurnCancelled` and store nothing more. `resume_session` can run the turn again. A turn that
        has ended stays as it is.

        Allowed inside a transaction.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
            actor: The owner, for a model with `owner_attribute`: a record, or its key.

        Returns:
            The record. `last_turn.status` says how the turn ended.

        Raises:
            SessionNotFound: No session has this id, or it belongs to another `actor`.
            NoResult: The session has no turn.
            ContextUnreadable: This version cannot read the stored context. Nothing is stored.

        Example:
            ```python
            session = ChatAgent.cancel_session(session.id)
            print(session.last_turn.status)
            ```
        """
        ...

    @two_forms_awaited(cancel.acancel_session)
    async def acancel_session(
        self,
        *,
        actor: Any = None,
    ) -> Self:
        """Cancel the open turn of a session on an event loop.

        As `cancel_session`. Allowed inside a transaction.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
            actor: The owner, for a model with `owner_attribute`: a record, or its key.

        Returns:
            The record. `last_turn.status` says how the turn ended.

        Raises:
            AgentSessionError: As `cancel_session`.

        Example:
            ```python
            session = await ChatAgent.acancel_session(session.id)
            print(session.last_turn.status)
            ```
        """
        ...

    @two_forms_read(read.get_context)
    def get_context(
        self, *, last: int | None = None, before: int | None = None, actor: Any = None
    ) -> Context:
        """Return the conversation of the session, read anew from its row.

        Nothing is changed. With `last` the context is a page: `context.first` is the position of its first
        message, `context.count` the number of all messages. From a model with `messages="rows"` only the page
        is read. A row without a turn gives an empty context. Allowed inside a transaction.

        While a streamed turn runs, `context.turn.partial` is its partial reply. A turn whose process died is
        `interrupted` once its lease is over by the database's clock, and `context.turn.is_abandoned` is true.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
            last: The number of messages of a page, from 1. None reads all.
            before: A position, counted from 0. The page ends with the message before it.
            actor: The owner, for a model with `owner_attribute`: a record, or its key.

        Returns:
            The conversation.

        Raises:
            SessionNotFound: No session has this id, or it belongs to another `actor`.
            InputInvalid: `last` or `before` is not such a number.
            LayoutMismatch: The session is stored in the other layout than the model declares.
            ContextUnreadable: This version cannot read the stored value.

        Example:
            ```python
            for message in ChatAgent.get_context(session.id).messages:
                print(message.role, message.text)

            page = session.get_context(last=50)
            while page.first > 0:
                page = session.get_context(last=50, before=page.first)
            ```
        """
        ...

    @two_forms_read(read.aget_context)
    async def aget_context(
        self, *, last: int | None = None, before: int | None = None, actor: Any = None
    ) -> Context:
        """Return the conversation of the session, on an event loop.

        As `get_context`. Called on the class, the method takes the id of a session, or its record, as its
        first argument `session`.

        Args:
            last: The number of messages of a page, from 1. None reads all.
            before: A position, counted from 0. The page ends with the message before it.
            actor: The owner, for a model with `owner_attribute`: a record, or its key.

        Returns:
            The conversation.

        Raises:
            AgentSessionError: As `get_context`.

        Example:
            ```python
            for message in (await session.aget_context()).messages:
                print(message.role, message.text)
            ```
        """
        ...

    @property
    def last_result(self) -> Result[Out]:
        """The result of the action that returned this record.

        For a record that was selected: the result of its latest completed turn. Runs no query.

        Returns:
            The result.

        Raises:
            NoResult: That turn did not complete, or no turn has completed.

        Example:
            ```python
            session = ChatAgent.start_session("Hello!")
            print(session.last_result.text)
            ```
        """
        record: Any = self
        return read.last_result(record)

    @property
    def last_turn(self) -> Turn:
        """The turn of the action that returned this record.

        For a record that was selected: its latest turn, as it was read. A running turn becomes `interrupted`
        once the lease that was read is over by the host's clock; select the record anew, or call
        `get_context`, to follow a turn whose lease is extended. Runs no query.

        Returns:
            The turn.

        Raises:
            NoResult: The session has no turn.

        Example:
            ```python
            print(session.last_turn.status)
            ```
        """
        record: Any = self
        return read.last_turn(record)

    @property
    def approvals(self) -> list[Approval]:
        """The tool calls that wait for an approval, as the record was read.

        Empty if no call waits. Runs no query; `agentsession.actions.approvals` reads the row anew.

        Returns:
            The calls, in the order in which the model asked for them.

        Example:
            ```python
            for approval in session.approvals:
                print(approval.tool, approval.arguments)
            ```
        """
        return approvals_of(self)
