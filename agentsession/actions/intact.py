"""What only later imports can show: a backref that landed on a generated name."""

from __future__ import annotations

from typing import Any

import peewee

from agentsession import info
from agentsession.errors import DslError, Problem
from agentsession.names import SESSION_NAMES


def refuse_backrefs(model: type[Any]) -> None:
    """Raise `DslError` where another model's `ForeignKeyField(backref=…)` replaced an action of this one."""
    problems = tuple(
        Problem(
            where=f"[{info.place(model)}] {name}",
            found=f"{found.field.model.__name__}.{found.field.name} has the backref {name!r}",
            why="Peewee put it over the generated action of that name",
            fix=f"give the ForeignKeyField another backref=, or declare {model.__name__} with inject=False",
        )
        for base in model.__mro__
        for name, found in vars(base).items()
        if isinstance(found, peewee.BackrefAccessor) and name in SESSION_NAMES
    )
    if problems and info.session_options(model).inject:
        raise DslError(problems)
