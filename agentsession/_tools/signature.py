"""The signature of a tool's function: the arguments for the model, the context, and how to call it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from inspect import Parameter
from types import MethodType, SimpleNamespace, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from agentsession._json_values import JsonMap
from agentsession._safe_errors import error_message
from agentsession._tools.tool_context import ToolContext

UNTYPED: Any = object()


@dataclass(frozen=True)
class Argument:
    """A parameter that the model fills. `reason` says why its type cannot be resolved."""

    name: str
    kind: Any
    hint: Any
    default: Any
    reason: str | None = None


@dataclass(frozen=True)
class Signature:
    """The parameters of a function.

    `positional` are the names of positional-only parameters, `more` is the `**kwargs` and `star` the name of
    the `*args`. `hidden` are names that the model must not pass.
    """

    arguments: tuple[Argument, ...] = ()
    contexts: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    more: Argument | None = None
    star: str | None = None
    hidden: frozenset[str] = frozenset()

    def bind(self, arguments: JsonMap, context: Any) -> tuple[list[Any], JsonMap]:
        """Return the positional and the keyword arguments of a call."""
        keywords = {**arguments, **dict.fromkeys(self.contexts, context)}
        positional = []
        for name in self.positional:
            if name not in keywords:
                break
            positional.append(keywords.pop(name))
        return positional, keywords


class Source(NamedTuple):
    """Where a function is defined."""

    name: str
    line: int
    file: str


@dataclass(frozen=True)
class FromSignature:
    """Parameters that are those of a function, with their descriptions and where the function is defined."""

    name: str
    signature: Signature
    described: dict[str, str] = field(default_factory=dict)
    source: Source | None = None


@dataclass(frozen=True)
class WholeValue:
    """Parameters that are passed as one value of the type: as the argument `input` of the function."""

    type: Any


def signature_of(function: Callable[..., Any]) -> Signature:
    """Return the signature; raises `ValueError` or `TypeError` if Python does not know it."""
    parameters = inspect.signature(function).parameters.values()
    bound = frozenset(_bound_keywords(function))
    found = [
        _argument(parameter, function)
        for parameter in parameters
        if parameter.kind is not Parameter.VAR_POSITIONAL and parameter.name not in bound
    ]
    contexts = tuple(each.name for each in found if is_context(each.hint))
    more = next((each for each in found if each.kind is Parameter.VAR_KEYWORD), None)
    return Signature(
        arguments=tuple(each for each in found if each.name not in contexts and each is not more),
        contexts=contexts,
        positional=tuple(each.name for each in found if each.kind is Parameter.POSITIONAL_ONLY),
        more=more,
        star=next((each.name for each in parameters if each.kind is Parameter.VAR_POSITIONAL), None),
        hidden=bound | set(contexts),
    )


def plain_function(function: Any) -> Any:
    """Return the Python function of a callable: of a method, a partial, a wrapper or an object."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.isroutine(function) or isinstance(function, type):
            return function
        else:
            function = type(function).__call__


def source_of(function: Any) -> Source | None:
    """Return where a function is defined, or None if it is not written in Python."""
    plain = plain_function(function)
    code = getattr(plain, "__code__", None)
    return None if code is None else Source(plain.__name__, code.co_firstlineno, code.co_filename)


def is_async(function: Any) -> bool:
    """Return whether a call makes a coroutine, also for methods, partials and callable objects."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        return False
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def is_context(hint: Any) -> bool:
    """Return whether a type is `ToolContext`, or a union with it."""
    if get_origin(hint) is Annotated:
        return is_context(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return any(is_context(each) for each in get_args(hint))
    return isinstance(hint, type) and issubclass(hint, ToolContext)


def _bound_keywords(function: Any) -> Iterator[str]:
    """Yield the keywords that a partial binds. Their values may be secrets."""
    while isinstance(function, partial):
        yield from function.keywords
        function = function.func


def _argument(parameter: Parameter, function: Any) -> Argument:
    hint, reason = UNTYPED, None
    if parameter.annotation is not Parameter.empty:
        try:
            hint = _resolved(parameter, function)
        except Exception as error:
            reason = f"{type(error).__name__}: {error_message(error)}"
    return Argument(parameter.name, parameter.kind, hint, parameter.default, reason)


def _resolved(parameter: Parameter, function: Any) -> Any:
    plain = plain_function(function)
    owner = getattr(function, "__self__", None)
    local = {owner.__name__: owner} if isinstance(owner, type) else {}
    holder: Any = SimpleNamespace(
        __annotations__={"it": parameter.annotation}, __type_params__=getattr(plain, "__type_params__", ())
    )
    found = get_type_hints(holder, getattr(plain, "__globals__", {}), local, include_extras=True)
    return found["it"]
