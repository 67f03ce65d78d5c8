"""The type parameters of the mixins, and decorators that make a declaration a method that calls an action.

A declaration has the signature and the docstring, which editors show, and no body.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, update_wrapper, wraps
from inspect import iscoroutinefunction
from types import GenericAlias, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from agentsession._safe_errors import take_all
from agentsession.actions.streams import AsyncTurnStream, TurnStream

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar

    In = DefaultingTypeVar("In", default=str)
    Out = DefaultingTypeVar("Out", default=Any)

    class Typed(Generic[In, Out]): ...

else:
    In = TypeVar("In")
    Out = TypeVar("Out")

    class Typed:
        """A base that takes type arguments. `typing.Generic` cannot become a base of an existing model."""

        __class_getitem__ = classmethod(GenericAlias)


F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


def on_class(action: Callable[..., Any]) -> Callable[[F], F]:
    """Return a decorator for a class method that calls `action` with the class as its model."""

    def decorate(declared: F) -> F:
        return cast("F", _calling(action, declared, lambda model: (model,)))

    return decorate


class ById(Protocol[P, R_co]):
    """The method of a class: `ChatAgent.continue_session(id_or_record, input, …)`."""

    def __call__(self, session: Any, *args: P.args, **keywords: P.kwargs) -> R_co: ...


class TwoForms(Generic[P]):
    """A method of a class, whose first argument is a session, and of a record, which is the session itself.

    The subclasses differ in their types only: one for each kind of value that an action returns. A type
    checker takes the parameters from the declaration, and what is returned from the class or the record.
    """

    def __init__(self, action: Callable[..., Any], declared: Callable[Concatenate[Any, P], Any]) -> None:
        update_wrapper(cast("Any", self), declared)
        self._action = action
        self._on_record = _calling(action, declared, lambda record: (type(record), record))

    if not TYPE_CHECKING:

        def __get__(self, record: Any, model: type[Any]) -> Any:
            return MethodType(self._action, model) if record is None else MethodType(self._on_record, record)


class BlockingMethod(TwoForms[P]):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ById[P, T]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> Callable[P, T]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class AwaitedMethod(TwoForms[P]):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ById[P, Coroutine[Any, Any, T]]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class StreamedMethod(TwoForms[P]):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ById[P, TurnStream[T]]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> Callable[P, TurnStream[T]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class AsyncStreamedMethod(TwoForms[P]):
    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, model: type[T]) -> ById[P, AsyncTurnStream[T]]: ...
        @overload
        def __get__(self, record: T, model: type[Any]) -> Callable[P, AsyncTurnStream[T]]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


class ReadMethod(TwoForms[P], Generic[P, R]):
    """Its result does not depend on the class."""

    if TYPE_CHECKING:

        def __init__(self, action: Any, declared: Callable[Concatenate[Any, P], R]) -> None: ...
        @overload
        def __get__(self, record: None, model: type[Any]) -> ById[P, R]: ...
        @overload
        def __get__(self, record: object, model: type[Any]) -> Callable[P, R]: ...
        def __get__(self, record: Any, model: Any) -> Any: ...


def two_forms(action: Any) -> Callable[[Callable[Concatenate[Any, P], Any]], BlockingMethod[P]]:
    """Return a decorator for a method of both forms that calls `action`."""
    return partial(BlockingMethod, action)


def two_forms_awaited(action: Any) -> Callable[[Callable[Concatenate[Any, P], Any]], AwaitedMethod[P]]:
    """As `two_forms`, for an action that is a coroutine."""
    return partial(AwaitedMethod, action)


def two_forms_streamed(action: Any) -> Callable[[Callable[Concatenate[Any, P], Any]], StreamedMethod[P]]:
    """As `two_forms`, for an action that returns a `TurnStream`."""
    return partial(StreamedMethod, action)


def two_forms_astreamed(
    action: Any,
) -> Callable[[Callable[Concatenate[Any, P], Any]], AsyncStreamedMethod[P]]:
    """As `two_forms`, for an action that returns an `AsyncTurnStream`."""
    return partial(AsyncStreamedMethod, action)


def two_forms_read(action: Any) -> Callable[[Callable[Concatenate[Any, P], R]], ReadMethod[P, R]]:
    """As `two_forms`, for an action whose result is of another type than the record."""
    return partial(ReadMethod, action)


def _calling(
    action: Callable[..., Any], declared: Callable[..., Any], leading: Callable[[Any], tuple[Any, ...]]
) -> Callable[..., Any]:
    """Return a function that calls `action` with the leading arguments of its own first one."""
    if iscoroutinefunction(action):

        @wraps(declared)
        async def acall(target: Any, *args: Any, **keywords: Any) -> Any:
            return await action(*leading(target), *args, **take_all(keywords))

        return acall

    @wraps(declared)
    def call(target: Any, *args: Any, **keywords: Any) -> Any:
        return action(*leading(target), *args, **take_all(keywords))

    return call
