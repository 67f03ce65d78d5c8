"""The mixins: the actions as methods of the model, typed for its input and output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import signature
from types import GenericAlias, MethodType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, overload

from agentsession import info
from agentsession.actions import one_call, results, session
from agentsession.actions.plan import ClientChoice, Options
from agentsession.context import Context, Result, Turn
from agentsession.store.record import unmanaged_fields

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
T_co = TypeVar("T_co", covariant=True)

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


class ById(Protocol[T_co]):
    """`ChatAgent.continue_session(id_or_record, input, …)`."""

    def __call__(
        self,
        session: Any,
        input: Any,
        *,
        instruction_args: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
        run: bool = True,
    ) -> T_co: ...


class OnRecord(Protocol[T_co]):
    """`session.continue_session(input, …)`."""

    def __call__(
        self,
        input: Any,
        *,
        instruction_args: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
        run: bool = True,
    ) -> T_co: ...


class ResumeById(Protocol[T_co]):
    """`ChatAgent.resume_session(id_or_record, …)`."""

    def __call__(
        self,
        session: Any,
        *,
        instruction_args: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> T_co: ...


class ResumeOnRecord(Protocol[T_co]):
    """`session.resume_session(…)`."""

    def __call__(
        self,
        *,
        instruction_args: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> T_co: ...


class ContextById(Protocol):
    """`ChatAgent.get_context(id_or_record)`."""

    def __call__(self, session: Any) -> Context: ...


def documented_by(function: Callable[..., Any]) -> Callable[[F], F]:
    """The docstring of the function that a method calls."""

    def decorate(method: F) -> F:
        method.__doc__ = function.__doc__
        return method

    return decorate


class TwoForms:
    """A function of the model and a session, as a method of both: of the class with the session as its first
    argument, of a record with none."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__
        shape = signature(function)

        @wraps(function)
        def on_record(record: Any, *args: Any, **keywords: Any) -> Any:
            return function(type(record), record, *args, **keywords)

        on_record.__signature__ = shape.replace(  # type: ignore[attr-defined]
            parameters=list(shape.parameters.values())[1:]
        )
        self.on_record = on_record

    def __get__(self, record: Any, model: type[Any]) -> Any:
        return MethodType(self.function, model) if record is None else MethodType(self.on_record, record)


class _Continue(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ById[T]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> OnRecord[T]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class _Resume(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ResumeById[T]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> ResumeOnRecord[T]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class _GetContext(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[Any]) -> ContextById: ...
        @overload
        def __get__(self, record: object, model: type[Any]) -> Callable[[], Context]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class AgentActions(_Typed[In, Out]):
    """`call`, for any class with `@agent`. `AgentActions[Ask, Answer]` types it, and declares the schemas."""

    @classmethod
    @documented_by(one_call.call)
    def call(
        cls,
        context_or_input: In | str | Mapping[str, Any] | Context,
        *,
        instruction_args: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> Result[Out]:
        return one_call.call(
            cls,
            context_or_input,
            instruction_args=instruction_args,
            client=client,
            client_options=client_options,
        )


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
    @documented_by(session.start_session)
    def start_session(
        cls,
        input: In | str | Mapping[str, Any],
        *,
        instruction_args: Any = None,
        attributes: Mapping[str, Any] | None = None,
        client: ClientChoice = None,
        client_options: Options = None,
        run: bool = True,
    ) -> Self:
        started: Any = session.start_session(
            cls,  # type: ignore[type-var]
            input,
            instruction_args=instruction_args,
            attributes=attributes,
            client=client,
            client_options=client_options,
            run=run,
        )
        return started  # type: ignore[no-any-return]

    continue_session = _Continue(session.continue_session)
    resume_session = _Resume(session.resume_session)
    get_context = _GetContext(session.get_context)

    @property
    @documented_by(results.last_result)
    def last_result(self) -> Result[Out]:
        return results.last_result(self)  # type: ignore[arg-type]

    @property
    @documented_by(results.last_turn)
    def last_turn(self) -> Turn:
        return results.last_turn(self)  # type: ignore[arg-type]
