"""Giving a class our mixin as a base, and taking it away again if the declaration fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agentsession.actions.mixins import AgentActions, GuardedSave

MIXINS = (AgentActions, GuardedSave)


@contextmanager
def with_base(model: Any, mixin: type) -> Iterator[None]:
    """The mixin as the first base, unless it is one already. A plain class (no base) gets it, too."""
    before = model.__bases__
    if not issubclass(model, mixin):
        _rebase(model, (mixin, *before))
    try:
        yield
    except BaseException:
        _rebase(model, before)
        raise


def without_base(model: Any, mixin: type) -> None:
    """Remove a mixin that a decorator gave to the class."""
    if mixin in model.__bases__:
        _rebase(model, tuple(base for base in model.__bases__ if base is not mixin))


def _rebase(model: Any, bases: tuple[type, ...]) -> None:
    if model.__bases__ != bases:
        model.__bases__ = bases
