"""The steps of every decorator: read the options, raise all problems as one error, add the actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import peewee

from agentsession import info
from agentsession._option_rules import UNSET, suggestion
from agentsession.actions.mixins import AgentActions, GivenActions
from agentsession.errors import DslError, Problem

T = TypeVar("T")


def apply(decorate: Callable[[Any], Any], model: Any) -> Any:
    """Decorate the model (`@agent_session`), or return the decorator (`@agent_session(…)`)."""
    return decorate if model is UNSET else decorate(model)


def where(model: Any, decorator: str, option: str) -> str:
    """Return the path of a problem."""
    return f"[{info.qualified_name(model)}] {decorator} -> {option}"


def stands_on(value: Any) -> str:
    """Describe a value below a decorator that is not a class, by its type: the value may be a secret."""
    return f"it stands on a value of type {type(value).__name__}, not on a class"


def with_defaults(options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each known option: the one in `options`, or the default."""
    return {name: options.get(name, default) for name, default in known.items()}


def unknown_options(
    model: Any, decorator: str, options: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield a problem for each option that the decorator does not have."""
    for name in options:
        if name not in known:
            found = f"@{decorator} has no option {name!r}"
            why = "an option without an effect would mislead its reader"
            yield Problem(where(model, decorator, name), found, why, suggestion(name, known))


def problems_of(draft: T, verifiers: Iterable[Callable[[T], Iterator[Problem]]]) -> Iterator[Problem]:
    """Yield the problems that the verifiers find."""
    for verifier in verifiers:
        yield from verifier(draft)


def raise_problems(problems: Iterable[Problem]) -> None:
    """Raise `DslError` with all problems, if there are any."""
    found = tuple(problems)
    if found:
        raise DslError(found)


@contextmanager
def with_actions(model: Any, mixin: type, decorator: str) -> Iterator[None]:
    """Add the mixin to the bases of the class, unless it is one; remove it if the block fails.

    CPython cannot change the bases of a class whose only base is `object`. Such a class gets the
    actions as attributes.
    """
    try:
        undo = (
            _add_attributes(model)
            if model.__bases__ == (object,)
            else _set_bases(model, _bases_with(model, mixin))
        )
    except TypeError as error:
        raise DslError((_immutable(model, mixin, decorator, error),)) from error
    try:
        yield
    except BaseException:
        undo()
        raise


def _bases_with(model: Any, mixin: type) -> tuple[type, ...]:
    """Return the bases with the mixin.

    It stands before the model, whose `save` it guards. Without a model it stands last, where the layouts of
    instances cannot conflict.
    """
    kept = [base for base in model.__bases__ if base is not GivenActions]
    if any(issubclass(base, _public(mixin)) for base in kept):
        return tuple(kept)
    position = 0
    while position < len(kept) and not _stays_behind(kept[position], mixin):
        position += 1
    return (*kept[:position], mixin, *kept[position:])


def _public(mixin: type) -> type:
    """Return the mixin that a user would write as a base."""
    return AgentActions if mixin is GivenActions else mixin


def _stays_behind(base: type, mixin: type) -> bool:
    return issubclass(base, peewee.Model) or issubclass(mixin, base)


def _set_bases(model: Any, bases: tuple[type, ...]) -> Callable[[], None]:
    before = model.__bases__
    if bases != before:
        model.__bases__ = bases

    def undo() -> None:
        if bases != before:
            model.__bases__ = before

    return undo


def _add_attributes(model: Any) -> Callable[[], None]:
    names = [name for name in vars(AgentActions) if not name.startswith("_")]
    for name in names:
        setattr(model, name, vars(AgentActions)[name])

    def undo() -> None:
        for name in names:
            delattr(model, name)

    return undo


def _immutable(model: Any, mixin: type, decorator: str, error: TypeError) -> Problem:
    return Problem(
        where(model, decorator, "class"),
        f"the actions cannot be added to the class: {error}",
        "the decorator adds a base class with the actions",
        f"class {model.__name__}({_public(mixin).__name__}, …): add the base yourself, as the first one",
    )
