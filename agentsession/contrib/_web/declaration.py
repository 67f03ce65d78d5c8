"""What a model needs to have routes, checked when a router is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import peewee
from pydantic import BaseModel

from agentsession import actions, info
from agentsession.errors import DslError, InputInvalid, Problem


def refuse_undeclared(model: type[peewee.Model], maker: str, actor: Any, instruction_args: Any) -> None:
    """Raise a `DslError` that lists what the router of this model lacks. `maker` is the function that makes
    it."""
    info.session_options(model)
    problems = (
        *_actor_problems(model, maker, actor),
        *_instruction_problems(model, maker, instruction_args),
    )
    if problems:
        raise DslError(problems)


def has_approvals(model: type[peewee.Model]) -> bool:
    """Return whether a turn of the model can wait for an approval."""
    return any(tool.needs_approval for tool in info.tools(model))


def _actor_problems(model: type[peewee.Model], maker: str, actor: Any) -> Iterator[Problem]:
    owner = info.session_options(model).owner_attribute
    where, why = (
        f"[{info.qualified_name(model)}] {maker} -> actor",
        "it decides which sessions a request can see",
    )
    fix = f"{maker}({model.__name__}, actor=current_user), a function that returns the actor of a request"
    if owner is not None and actor is None:
        yield Problem(where, f"the model has the owner_attribute {owner!r}, and there is no actor", why, fix)
    elif owner is None and actor is not None:
        fix = '@agent_session(owner_attribute="user"), or leave actor out: then all users see all sessions'
        yield Problem(where, "there is an actor, and the model has no owner_attribute", why, fix)
    elif owner is not None and not callable(actor):
        yield Problem(where, f"a {type(actor).__name__} cannot be called", why, fix)


def _instruction_problems(model: type[peewee.Model], maker: str, args: Any) -> Iterator[Problem]:
    where = f"[{info.qualified_name(model)}] {maker} -> instruction_args"
    why = "new sessions begin with them; a client must not write into the system message"
    if callable(args) or isinstance(args, BaseModel) or is_dataclass(args):
        return  # a function is called for each session, a value of the schema is already valid
    if not isinstance(args, Mapping | None):
        fix = f"{maker}({model.__name__}, …, instruction_args={{…}}), or a function that returns them"
        yield Problem(where, f"a {type(args).__name__} is not a mapping", why, fix)
        return
    if not (args or info.agent_options(model).template.has_variables):
        return
    try:
        actions.instruction_message(model, **(args or {}))
    except InputInvalid as error:
        yield Problem(
            where,
            error.found,
            why,
            error.fix.replace("pass ", f"{maker}({model.__name__}, …, ")
            + "), or a function that returns them",
        )
