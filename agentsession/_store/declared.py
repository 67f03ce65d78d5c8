"""What a model was declared with, resolved once for an action."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agentsession import _registry, info
from agentsession._options import AgentOptions, SessionOptions
from agentsession._store.backend import Backend, backend_of


@dataclass(frozen=True, eq=False)
class Declared:
    """A session model with its options, its message model and its database.

    It is made when an action begins and lives as long as the action, because a model may be bound to another
    database, and get its message model, between two actions. The database is looked up at its first use.
    """

    model: Any
    agent: AgentOptions
    options: SessionOptions

    @classmethod
    def of(cls, model: Any) -> Declared:
        """Resolve the options of a model. Raises `DslError` for a model without `@agent_session`."""
        options = info.session_options(model)
        return cls(model, info.agent_options(model), options)

    @cached_property
    def backend(self) -> Backend:
        """The model's database. Raises `DslError` if it is not initialised or not supported."""
        return backend_of(self.model)

    @cached_property
    def message_model(self) -> tuple[Any, str] | None:
        """The model of the messages and the name of its foreign key; None for a model without one."""
        return _registry.message_of(self.model)

    @cached_property
    def inside(self) -> bool:
        """Whether the caller had a transaction open when the action began."""
        return self.backend.is_in_transaction

    @property
    def name(self) -> str:
        """The model as errors name it: `module.Model`."""
        return info.qualified_name(self.model)

    @property
    def context_field(self) -> Any:
        return self.model._meta.fields[self.options.context_attribute]

    @property
    def owner_field(self) -> Any:
        """The field of the owner; None for a model without one."""
        name = self.options.owner_attribute
        return None if name is None else self.model._meta.fields[name]
