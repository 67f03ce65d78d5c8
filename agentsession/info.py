"""The declared options of a model, read-only.

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


def qualified_name(model: Any) -> str:
    """Return the name of a model in errors: `module.Model`.

    A value that is not a class is named by its type, because it may be a secret.
    """
    if not isinstance(model, type):
        return f"<{type(model).__name__}>"
    return f"{model.__module__}.{model.__qualname__}"


def is_agent(model: Any) -> bool:
    """Return whether the model, or one of its bases, has `@agent`."""
    return _registry.agent_of(model) is not None


def is_session(model: Any) -> bool:
    """Return whether the model, or one of its bases, has `@agent_session`."""
    return _registry.session_of(model) is not None


def agent_options(model: Any) -> AgentOptions:
    """Return the options of `@agent`. Raises `DslError` for a model without it."""
    options = _registry.agent_of(model)
    if options is None:
        raise DslError((_undeclared(model, "agent", "client=…, instruction=…"),))
    return options


def session_options(model: Any) -> SessionOptions:
    """Return the options of `@agent_session`. Raises `DslError` for a model without it."""
    options = _registry.session_of(model)
    if options is None:
        raise DslError((_undeclared(model, "agent_session", 'context_attribute="context"'),))
    return options


def client(model: Any) -> Client:
    """Return the declared client. Its options are not part of its repr."""
    return agent_options(model).client


def instruction(model: Any) -> str:
    """Return the template of the instruction, as it was declared."""
    return agent_options(model).template.source


def input_schema(model: Any) -> Any:
    """Return the type of a user's message."""
    return agent_options(model).input.type


def output_schema(model: Any) -> Any:
    """Return the type of a reply; `str` if replies are text."""
    return agent_options(model).output.type


def tools(model: Any) -> tuple[Tool, ...]:
    """Return the tools that the LLM may call, in the order in which a request names them."""
    return agent_options(model).tools


def message_model(model: Any) -> Any:
    """Return the model of the messages in rows; None if no `@agent_message` refers to this model (yet)."""
    declared = _registry.message_of(model)
    return None if declared is None else declared[0]


def managed_attributes(model: Any) -> tuple[str, ...]:
    """Return the attributes that `save()` does not write once the record is stored."""
    return session_options(model).managed


def _undeclared(model: Any, decorator: str, arguments: str) -> Problem:
    return Problem(
        where=f"[{qualified_name(model)}] {decorator}",
        found=f"the model has no @{decorator}",
        why="its actions need the options that the decorator collects",
        fix=f"put @{decorator}({arguments}) above the class",
    )
