"""Which model was declared with which options: the only state of declarations.

Keyed by the class itself, weakly: a class defined again under the same name is another class, and one
that is gone leaves nothing. Options are found along the bases, so a subclass keeps them.
"""

from __future__ import annotations

from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from agentsession.options import AgentOptions, SessionOptions

Options = TypeVar("Options")

_agents: WeakKeyDictionary[type, AgentOptions] = WeakKeyDictionary()
_sessions: WeakKeyDictionary[type, SessionOptions] = WeakKeyDictionary()


def declare_agent(model: type, options: AgentOptions) -> None:
    _agents[model] = options


def declare_session(model: type, options: SessionOptions) -> None:
    _sessions[model] = options


def agent_of(model: Any) -> AgentOptions | None:
    return _along_bases(_agents, model)


def session_of(model: Any) -> SessionOptions | None:
    return _along_bases(_sessions, model)


def _along_bases(declared: WeakKeyDictionary[type, Options], model: Any) -> Options | None:
    for base in getattr(model, "__mro__", ()):
        options = declared.get(base)
        if options is not None:
            return options
    return None
