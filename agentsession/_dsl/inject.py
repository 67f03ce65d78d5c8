"""Giving a class our actions, and taking them away again if the declaration fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from agentsession._dsl.declare import where
from agentsession.actions.mixins import AgentActions, GivenActions
from agentsession.errors import DslError, Problem


@contextmanager
def given(model: Any, mixin: type, decorator: str) -> Iterator[None]:
    """The mixin as a base of the class, unless it is one; undone if the block fails.

    A class whose only base is `object` cannot be given another by CPython: it gets the actions themselves.
    """
    try:
        undo = _inscribe(model) if model.__bases__ == (object,) else _rebase(model, _with(model, mixin))
    except TypeError as error:
        raise DslError((_immutable(model, mixin, decorator, error),)) from error
    try:
        yield
    except BaseException:
        undo()
        raise


def _with(model: Any, mixin: type) -> tuple[type, ...]:
    """The bases with the mixin in front of the model that it guards, else last, where layouts never clash."""
    kept = [base for base in model.__bases__ if base is not GivenActions]
    served = AgentActions if mixin is GivenActions else mixin
    if any(issubclass(base, served) for base in kept):
        return tuple(kept)
    position = 0
    while position < len(kept) and not _stays_behind(kept[position], mixin):
        position += 1
    return (*kept[:position], mixin, *kept[position:])


def _stays_behind(base: type, mixin: type) -> bool:
    return issubclass(base, peewee.Model) or issubclass(mixin, base)


def _rebase(model: Any, bases: tuple[type, ...]) -> Callable[[], None]:
    before = model.__bases__
    if bases != before:
        model.__bases__ = bases

    def undo() -> None:
        if bases != before:
            model.__bases__ = before

    return undo


def _inscribe(model: Any) -> Callable[[], None]:
    names = [name for name in vars(AgentActions) if not name.startswith("_")]
    for name in names:
        setattr(model, name, vars(AgentActions)[name])

    def undo() -> None:
        for name in names:
            delattr(model, name)

    return undo


def _immutable(model: Any, mixin: type, decorator: str, error: TypeError) -> Problem:
    public = AgentActions if mixin is GivenActions else mixin
    return Problem(
        where(model, decorator, "class"),
        f"the class cannot be given the actions: {error}",
        "they are methods of a base that the decorator adds",
        f"class {model.__name__}({public.__name__}, …): add the base yourself, as the first one",
    )
