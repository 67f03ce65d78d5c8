"""Names of generated actions that the user's class, or a base of it, already uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peewee

from agentsession._dsl.declare import where
from agentsession.actions.mixins import AgentActions
from agentsession.errors import Problem


def taken_names(model: Any, decorator: str, names: frozenset[str]) -> Iterator[Problem]:
    for base in getattr(model, "__mro__", ()):
        if base.__module__ == AgentActions.__module__ or base in (object, peewee.Model):
            continue
        for name in sorted(names & vars(base).keys()):
            if vars(base)[name] is vars(AgentActions).get(name):
                continue
            yield Problem(
                where(model, decorator, name),
                f"{base.__name__} already has {name!r}",
                "a generated action of that name would replace it, or be replaced in silence",
                f"rename {base.__name__}.{name}"
                + (", or pass inject=False" if decorator == "agent_session" else ""),
            )
