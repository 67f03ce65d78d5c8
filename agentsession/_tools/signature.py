"""The parameters of a function: which the model fills, which is the context, and how it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from inspect import Parameter
from types import MethodType, SimpleNamespace, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from agentsession._json_values import JsonMap
from agentsession._tools.tool_context import ToolContext
from agentsession.errors import words

UNTYPED: Any = object()


@dataclass(frozen=True)
class Argument:
    """One parameter that the model fills; `reason` says why its type could not be found."""

    name: str
    kind: Any
    hint: Any
    default: Any
    reason: str | None = None


@dataclass(frozen=True)
class Signature:
    """What a function takes. `positional` are the names that cannot be given as keywords, `more` is the
    `**kwargs` and `star` the name of the `*args`, `hidden` are names that the model must not give."""

    arguments: tuple[Argument, ...] = ()
    contexts: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    more: Argument | None = None
    star: str | None = None
    hidden: frozenset[str] = frozenset()

    def bind(self, arguments: JsonMap, context: Any) -> tuple[list[Any], JsonMap]:
        """The arguments in the form in which the function takes them."""
        keywords = {**arguments, **dict.fromkeys(self.contexts, context)}
        positional = []
        for name in self.positional:
            if name not in keywords:
                break
            positional.append(keywords.pop(name))
        return positional, keywords


def signature_of(function: Callable[..., Any]) -> Signature:
    """Raises `ValueError` or `TypeError` where Python knows no signature."""
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
    """The function in which a callable was written: that of a method, a partial, a wrapper, an object."""
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


class Source(NamedTuple):
    """Where a function is defined."""

    name: str
    line: int
    file: str


def source_of(function: Any) -> Source | None:
    """None for a function that is not written in Python."""
    plain = plain_function(function)
    code = getattr(plain, "__code__", None)
    return None if code is None else Source(plain.__name__, code.co_firstlineno, code.co_filename)


def is_async(function: Any) -> bool:
    """Does calling it make a coroutine? Methods, partials and callable objects included."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        return False
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def is_context(hint: Any) -> bool:
    """Is it `ToolContext`, or that among other types?"""
    if get_origin(hint) is Annotated:
        return is_context(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return any(is_context(each) for each in get_args(hint))
    return isinstance(hint, type) and issubclass(hint, ToolContext)


def _bound_keywords(function: Any) -> Iterator[str]:
    """What a partial gives itself: it may be a secret, and is nothing of the model's."""
    while isinstance(function, partial):
        yield from function.keywords
        function = function.func


def _argument(parameter: Parameter, function: Any) -> Argument:
    hint, reason = UNTYPED, None
    if parameter.annotation is not Parameter.empty:
        try:
            hint = _resolved(parameter, function)
        except Exception as error:
            reason = f"{type(error).__name__}: {words(error)}"
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


@dataclass(frozen=True)
class FromSignature:
    """The parameters of a function, each with what its docstring says of it, and where it is defined."""

    name: str
    signature: Signature
    described: dict[str, str] = field(default_factory=dict)
    source: Source | None = None


@dataclass(frozen=True)
class WholeValue:
    """Parameters whose values the function is given as one: the typed value, as its argument `input`."""

    type: Any
