"""What a model needs to have routes, asked when they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peewee

from agentsession import info
from agentsession._turn.plan import accept_args, render
from agentsession.errors import DslError, InputInvalid, Problem


def refuse_undeclared(model: type[peewee.Model], maker: str, actor: Any, instruction_args: Any) -> None:
    """Raise a `DslError` that lists what `maker`, which makes the routes, cannot do without."""
    info.session_options(model)
    problems = (
        *_actor_problems(model, maker, actor),
        *_instruction_problems(model, maker, instruction_args),
    )
    if problems:
        raise DslError(problems)


def has_approvals(model: type[peewee.Model]) -> bool:
    """Can a turn of it stop until somebody has approved a call?"""
    return any(tool.needs_approval for tool in info.agent_options(model).tools)


def _actor_problems(model: type[peewee.Model], maker: str, actor: Any) -> Iterator[Problem]:
    owner = info.session_options(model).owner_attribute
    where, why = (
        f"[{info.qualified_name(model)}] {maker} -> actor",
        "it decides which sessions a request can see",
    )
    fix = f"{maker}({model.__name__}, actor=current_user), a function that gives the actor of a request"
    if owner is not None and actor is None:
        yield Problem(where, f"the model has the owner_attribute {owner!r}, and there is no actor", why, fix)
    elif owner is None and actor is not None:
        fix = '@agent_session(owner_attribute="user"), or leave actor out: all sessions are everybody\'s'
        yield Problem(where, "there is an actor, and the model has no owner_attribute", why, fix)
    elif owner is not None and not callable(actor):
        yield Problem(where, f"a {type(actor).__name__} cannot be called", why, fix)


def _instruction_problems(model: type[peewee.Model], maker: str, given: Any) -> Iterator[Problem]:
    agent = info.agent_options(model)
    if callable(given) or not (given or agent.template.has_variables):
        return
    try:
        render(agent, accept_args(agent, given or {}))
    except InputInvalid as error:
        yield Problem(
            f"[{info.qualified_name(model)}] {maker} -> instruction_args",
            error.found,
            "new sessions are begun with them; a client must not write into the system message",
            error.fix.replace("pass ", f"{maker}({model.__name__}, …, ") + "), or a function that gives them",
        )
