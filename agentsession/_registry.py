"""The declared models and their options.

They are kept by class, weakly: a class that is defined again under the same name is another class, and a
class that is collected leaves nothing. Options are found along the bases of a class, so a subclass keeps
them.
"""

from __future__ import annotations

from typing import Any, TypeVar
from weakref import ReferenceType, WeakKeyDictionary, ref

from agentsession._options import AgentOptions, SessionOptions

OptionsT = TypeVar("OptionsT")

_agents: WeakKeyDictionary[type, AgentOptions] = WeakKeyDictionary()
_sessions: WeakKeyDictionary[type, SessionOptions] = WeakKeyDictionary()
_messages: WeakKeyDictionary[type, tuple[ReferenceType[type], str]] = WeakKeyDictionary()


def declare_agent(model: type, options: AgentOptions) -> None:
    _agents[model] = options


def declare_session(model: type, options: SessionOptions) -> None:
    _sessions[model] = options


def declare_message(session: type, message: type, session_attribute: str) -> None:
    """Declare the message model of a session model. `session_attribute` is the message's foreign key."""
    _messages[session] = ref(message), session_attribute


def agent_of(model: Any) -> AgentOptions | None:
    return _along_bases(_agents, model)


def session_of(model: Any) -> SessionOptions | None:
    return _along_bases(_sessions, model)


def message_of(session: Any) -> tuple[Any, str] | None:
    """Return the message model of a session model and the name of its foreign key.

    A subclass has the message model of its base if both have the same table.
    """
    for base in getattr(session, "__mro__", ()):
        declared = _messages.get(base)
        message = None if declared is None else declared[0]()
        if declared is not None and message is not None and _is_same_table(base, session):
            return message, declared[1]
    return None


def _is_same_table(base: Any, session: Any) -> bool:
    return bool(base is session or base._meta.table_name == session._meta.table_name)


def _along_bases(declared: WeakKeyDictionary[type, OptionsT], model: Any) -> OptionsT | None:
    for base in getattr(model, "__mro__", ()):
        options = declared.get(base)
        if options is not None:
            return options
    return None
