"""The mixins: the actions as methods of a class, typed for its input and output."""

from agentsession.actions.mixins.agent import AgentActions, GivenActions
from agentsession.actions.mixins.session import GuardedSave, SessionActions

__all__ = ["AgentActions", "GivenActions", "GuardedSave", "SessionActions"]
