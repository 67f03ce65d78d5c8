"""Read-only questions about a decorated model.

>>> from agentsession import info
>>> info.is_session(dict)
False
"""

from __future__ import annotations

from typing import Any

from agentsession import _registry
from agentsession._options import AgentOptions, Client, SessionOptions
from agentsession._tools.definition import Tool
from agentsession.errors import DslError, Problem


def place(model: Any) -> str:
    """How errors name a model: `module.Model`. What is no class is named by its type: it may be a secret."""
    if not isinstance(model, type):
        return f"<{type(model).__name__}>"
    return f"{model.__module__}.{model.__qualname__}"


def is_agent(model: Any) -> bool:
    """Does `@agent` stand on this model or one of its bases?"""
    return _registry.agent_of(model) is not None


def is_session(model: Any) -> bool:
    """Does `@agent_session` stand on this model or one of its bases?"""
    return _registry.session_of(model) is not None


def agent_options(model: Any) -> AgentOptions:
    """The options of `@agent`; raises `DslError` for a model without it."""
    options = _registry.agent_of(model)
    if options is None:
        raise DslError((_undeclared(model, "agent", "client=…, instruction=…"),))
    return options


def session_options(model: Any) -> SessionOptions:
    """The options of `@agent_session`; raises `DslError` for a model without it."""
    options = _registry.session_of(model)
    if options is None:
        raise DslError((_undeclared(model, "agent_session", 'context_attribute="context"'),))
    return options


def client(model: Any) -> Client:
    """The client that the model was declared with (its options do not show in its repr)."""
    return agent_options(model).client


def instruction(model: Any) -> str:
    """The instruction's template, as it was written."""
    return agent_options(model).template.source


def input_schema(model: Any) -> Any:
    """The type of a user's message."""
    return agent_options(model).input.type


def output_schema(model: Any) -> Any:
    """The type of a reply; `str` where replies are text."""
    return agent_options(model).output.type


def tools(model: Any) -> tuple[Tool, ...]:
    """What the model may ask for, in the order in which it is told of them."""
    return agent_options(model).tools


def message_model(model: Any) -> Any:
    """The model of its messages, where they are rows; None where there is none (yet)."""
    declared = _registry.message_of(model)
    return None if declared is None else declared[0]


def managed_attributes(model: Any) -> tuple[str, ...]:
    """The attributes that `save()` leaves out once the record exists."""
    return session_options(model).managed


def _undeclared(model: Any, decorator: str, arguments: str) -> Problem:
    return Problem(
        where=f"[{place(model)}] {decorator}",
        found=f"the model has no @{decorator}",
        why="its actions need the options that the decorator collects",
        fix=f"put @{decorator}({arguments}) above the class",
    )
