"""Add the actions to a class, and remove them if the declaration fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from agentsession._dsl.declare import where
from agentsession.actions.mixins import AgentActions, GivenActions
from agentsession.errors import DslError, Problem


@contextmanager
def with_actions(model: Any, mixin: type, decorator: str) -> Iterator[None]:
    """Add the mixin to the bases of the class, unless it is one; remove it if the block fails.

    CPython cannot change the bases of a class whose only base is `object`. It gets the actions as attributes.
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
