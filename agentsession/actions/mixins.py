"""The mixins: the actions as methods of the model, typed for its input and output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

from agentsession import info
from agentsession._store.record import unmanaged_fields
from agentsession._tracebacks import take_all
from agentsession._turn_state import Turn
from agentsession.actions import one_call, results, session
from agentsession.actions.approvals import Approval, approvals_of
from agentsession.actions.method_types import (
    AskOptions,
    AsyncCancel,
    AsyncContinue,
    AsyncGetContext,
    AsyncResume,
    AsyncStreamContinue,
    AsyncStreamResume,
    Cancel,
    Continue,
    GetContext,
    Resume,
    StartOptions,
    StreamContinue,
    StreamResume,
    same_as,
)
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.context import Context, Result

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar

    In = DefaultingTypeVar("In", default=str)
    Out = DefaultingTypeVar("Out", default=Any)

    class _Typed(Generic[In, Out]):
        """What a type checker sees; at run time a Generic could not become a base of an existing model."""
else:
    In = TypeVar("In")
    Out = TypeVar("Out")

    class _Typed:
        __class_getitem__ = classmethod(GenericAlias)


class AgentActions(_Typed[In, Out]):
    """`call`, for any class with `@agent`. `AgentActions[Ask, Answer]` types it, and declares the schemas."""

    @classmethod
    @same_as(one_call.call)
    def call(
        cls, context_or_input: In | str | Mapping[str, Any] | Context, **options: Unpack[AskOptions]
    ) -> Result[Out]:
        return one_call.call(cls, context_or_input, **take_all(options))

    @classmethod
    @same_as(one_call.acall)
    async def acall(
        cls, context_or_input: In | str | Mapping[str, Any] | Context, **options: Unpack[AskOptions]
    ) -> Result[Out]:
        return await one_call.acall(cls, context_or_input, **take_all(options))

    @classmethod
    @same_as(one_call.stream)
    def stream(
        cls, context_or_input: In | str | Mapping[str, Any] | Context, **options: Unpack[AskOptions]
    ) -> TurnStream[None]:
        return one_call.stream(cls, context_or_input, **take_all(options))

    @classmethod
    @same_as(one_call.astream)
    def astream(
        cls, context_or_input: In | str | Mapping[str, Any] | Context, **options: Unpack[AskOptions]
    ) -> AsyncTurnStream[None]:
        return one_call.astream(cls, context_or_input, **take_all(options))


class GivenActions(AgentActions[Any, Any]):
    """What `@agent` gives a class that lacks the mixin; `@agent_session` puts its own mixin in its place."""


class GuardedSave:
    """The `save` of a session's record: it leaves the managed attributes to the library."""

    def save(self, force_insert: bool = False, only: Iterable[Any] | None = None, **more: Any) -> Any:
        """As `peewee.Model.save`, but an update leaves out the context, status and updated attributes: a copy
        that was read earlier would be put over a newer turn. Raises `ManagedField` if one was assigned.

        What a `save` of your own base takes beside (`more`) is passed on to it."""
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


class SessionActions(GuardedSave, AgentActions[In, Out]):
    """The actions of a session, for a Peewee model with `@agent_session`.

    `class ChatAgent(SessionActions[Ask, Answer], peewee.Model)` types `start_session` for `Ask` and
    `last_result` for `Answer`, and declares both as the schemas if `@agent` does not. A model without the
    mixin is given it by the decorator, which type checkers cannot see.
    """

    @classmethod
    @same_as(session.start_session)
    def start_session(cls, input: In | str | Mapping[str, Any], **options: Unpack[StartOptions]) -> Self:
        model: Any = cls
        started: Self = session.start_session(model, input, **take_all(options))
        return started

    @classmethod
    @same_as(session.astart_session)
    async def astart_session(
        cls, input: In | str | Mapping[str, Any], **options: Unpack[StartOptions]
    ) -> Self:
        model: Any = cls
        started: Self = await session.astart_session(model, input, **take_all(options))
        return started

    @classmethod
    @same_as(session.stream_start_session)
    def stream_start_session(
        cls, input: In | str | Mapping[str, Any], **options: Unpack[StartOptions]
    ) -> TurnStream[Self]:
        model: Any = cls
        return session.stream_start_session(model, input, **take_all(options))

    @classmethod
    @same_as(session.astream_start_session)
    def astream_start_session(
        cls, input: In | str | Mapping[str, Any], **options: Unpack[StartOptions]
    ) -> AsyncTurnStream[Self]:
        model: Any = cls
        return session.astream_start_session(model, input, **take_all(options))

    continue_session = Continue(session.continue_session)
    acontinue_session = AsyncContinue(session.acontinue_session)
    stream_continue_session = StreamContinue(session.stream_continue_session)
    astream_continue_session = AsyncStreamContinue(session.astream_continue_session)
    resume_session = Resume(session.resume_session)
    aresume_session = AsyncResume(session.aresume_session)
    stream_resume_session = StreamResume(session.stream_resume_session)
    astream_resume_session = AsyncStreamResume(session.astream_resume_session)
    cancel_session = Cancel(session.cancel_session)
    acancel_session = AsyncCancel(session.acancel_session)
    get_context = GetContext(session.get_context)
    aget_context = AsyncGetContext(session.aget_context)

    @property
    def last_result(self) -> Result[Out]:
        record: Any = self
        return results.last_result(record)

    @property
    def last_turn(self) -> Turn:
        record: Any = self
        return results.last_turn(record)

    @property
    def approvals(self) -> list[Approval]:
        return approvals_of(self)

    approvals.__doc__ = approvals_of.__doc__
    last_result.__doc__ = results.last_result.__doc__
    last_turn.__doc__ = results.last_turn.__doc__
