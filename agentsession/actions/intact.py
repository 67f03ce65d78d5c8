"""What only later imports can show: a backref or a field that landed on a generated name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peewee

from agentsession import info
from agentsession.errors import DslError, Problem
from agentsession.names import SESSION_NAMES

GUARD = frozenset({"save"})
PUT_BY_PEEWEE = (peewee.BackrefAccessor, peewee.FieldAccessor, peewee.ObjectIdAccessor)


def refuse_backrefs(model: type[Any]) -> None:
    """Raise `DslError` where Peewee has put something over an action of this model: another model's
    `ForeignKeyField(backref=…)` or `ManyToManyField(backref=…)`, or a field of a subclass."""
    names = SESSION_NAMES | GUARD if info.session_options(model).inject else GUARD
    problems = tuple(_covered(model, names))
    if problems:
        raise DslError(problems)


def _covered(model: type[Any], names: frozenset[str]) -> Iterator[Problem]:
    for base in model.__mro__:
        for name in sorted(names & vars(base).keys()):
            found = vars(base)[name]
            if isinstance(found, PUT_BY_PEEWEE):
                yield Problem(
                    where=f"[{info.place(model)}] {name}",
                    found=_origin(base, name, found),
                    why="Peewee put it over the generated action of that name",
                    fix=f"give it another name, or declare {model.__name__} with inject=False",
                )


def _origin(base: type[Any], name: str, found: Any) -> str:
    if isinstance(found, peewee.BackrefAccessor):
        return f"{found.field.model.__name__}.{found.field.name} has the backref {name!r}"
    if isinstance(found, peewee.ManyToManyFieldAccessor):
        return f"a ManyToManyField between it and {found.field.rel_model.__name__} is called {name!r}"
    return f"{base.__name__} has a field {name!r}"
