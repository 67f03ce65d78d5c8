"""One function of a model and a session, as a method of two forms, and what a type checker sees of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, Unpack, overload

from agentsession._tracebacks import take_all
from agentsession.actions.prepare import ClientChoice, Options
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.context import Context

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
T_co = TypeVar("T_co", covariant=True)


class AskOptions(TypedDict, total=False):
    """The keywords of every action that asks a model."""

    instruction_args: Any
    client: ClientChoice
    client_options: Options


class ResumeOptions(AskOptions, total=False):
    """The keywords of an action that runs a turn of a session."""

    actor: Any


class TurnOptions(ResumeOptions, total=False):
    """The keywords of an action that says something."""

    run: bool
    idempotency_key: str | None


class StartOptions(TurnOptions, total=False):
    """The keywords of the action that begins a session."""

    attributes: Mapping[str, Any] | None


class ContinueById(Protocol[T_co]):
    """`ChatAgent.continue_session(id_or_record, input, …)`."""

    def __call__(self, session: Any, input: Any, **options: Unpack[TurnOptions]) -> T_co: ...


class ContinueOnRecord(Protocol[T_co]):
    """`session.continue_session(input, …)`."""

    def __call__(self, input: Any, **options: Unpack[TurnOptions]) -> T_co: ...


class ResumeById(Protocol[T_co]):
    """`ChatAgent.resume_session(id_or_record, …)`."""

    def __call__(self, session: Any, **options: Unpack[ResumeOptions]) -> T_co: ...


class ResumeOnRecord(Protocol[T_co]):
    """`session.resume_session(…)`."""

    def __call__(self, **options: Unpack[ResumeOptions]) -> T_co: ...


class CancelById(Protocol[T_co]):
    """`ChatAgent.cancel_session(id_or_record)`."""

    def __call__(self, session: Any, *, actor: Any = ...) -> T_co: ...


class CancelOnRecord(Protocol[T_co]):
    """`session.cancel_session()`."""

    def __call__(self, *, actor: Any = ...) -> T_co: ...


class ReadOptions(TypedDict, total=False):
    """The keywords of `get_context`."""

    last: int | None
    before: int | None
    actor: Any


class ReadById(Protocol[T_co]):
    """`ChatAgent.get_context(id_or_record, last=…, before=…)`."""

    def __call__(self, session: Any, **options: Unpack[ReadOptions]) -> T_co: ...


class ReadOnRecord(Protocol[T_co]):
    """`session.get_context(last=…, before=…)`."""

    def __call__(self, **options: Unpack[ReadOptions]) -> T_co: ...


class TwoForms:
    """A function of the model and a session, as a method of both: of the class with the session as its first
    argument, of a record with none."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

        @wraps(function)
        def on_record(record: Any, *args: Any, **keywords: Any) -> Any:
            return function(type(record), record, *args, **take_all(keywords))

        on_record.__signature__ = _without_model(function)  # type: ignore[attr-defined]
        self.on_record = on_record

    def __get__(self, record: Any, model: type[Any]) -> Any:
        return MethodType(self.function, model) if record is None else MethodType(self.on_record, record)


class Continue(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ContinueById[T]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> ContinueOnRecord[T]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class AsyncContinue(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ContinueById[Coroutine[Any, Any, T]]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> ContinueOnRecord[Coroutine[Any, Any, T]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class StreamContinue(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ContinueById[TurnStream[T]]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> ContinueOnRecord[TurnStream[T]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class AsyncStreamContinue(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ContinueById[AsyncTurnStream[T]]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> ContinueOnRecord[AsyncTurnStream[T]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class Resume(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ResumeById[T]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> ResumeOnRecord[T]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class AsyncResume(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ResumeById[Coroutine[Any, Any, T]]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> ResumeOnRecord[Coroutine[Any, Any, T]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class StreamResume(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ResumeById[TurnStream[T]]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> ResumeOnRecord[TurnStream[T]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class AsyncStreamResume(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ResumeById[AsyncTurnStream[T]]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> ResumeOnRecord[AsyncTurnStream[T]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class Cancel(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> CancelById[T]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> CancelOnRecord[T]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class AsyncCancel(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> CancelById[Coroutine[Any, Any, T]]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> CancelOnRecord[Coroutine[Any, Any, T]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class GetContext(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[Any]) -> ReadById[Context]: ...
        @overload
        def __get__(self, record: object, model: type[Any]) -> ReadOnRecord[Context]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class AsyncGetContext(TwoForms):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[Any]) -> ReadById[Coroutine[Any, Any, Context]]: ...
        @overload
        def __get__(self, record: object, model: type[Any]) -> ReadOnRecord[Coroutine[Any, Any, Context]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


def same_as(function: Callable[..., Any]) -> Callable[[F], F]:
    """The docstring and the keywords of the function that a method calls."""

    def decorate(method: F) -> F:
        method.__doc__ = function.__doc__
        parameters = [Parameter("cls", Parameter.POSITIONAL_OR_KEYWORD), *_rest(function)]
        method.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return method

    return decorate


def _without_model(function: Callable[..., Any]) -> Signature:
    return signature(function).replace(parameters=_rest(function))


def _rest(function: Callable[..., Any]) -> list[Parameter]:
    return list(signature(function).parameters.values())[1:]
