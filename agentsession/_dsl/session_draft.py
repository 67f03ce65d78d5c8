"""What a decorator of Peewee models stands on, as its verifiers look at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import peewee

from agentsession._dsl.declare import where


@dataclass
class ModelDraft:
    """The class, not yet verified."""

    decorator: ClassVar[str]

    model: Any

    def where(self, option: str) -> str:
        return where(self.model, self.decorator, option)

    @property
    def is_model(self) -> bool:
        """Of the user's own: `peewee.Model` itself has no table."""
        is_class = isinstance(self.model, type)
        return is_class and issubclass(self.model, peewee.Model) and self.model is not peewee.Model

    @property
    def fields(self) -> dict[str, Any]:
        return self.model._meta.fields if self.is_model else {}


@dataclass
class SessionDraft(ModelDraft):
    """What `@agent_session` was given, not yet verified."""

    decorator = "agent_session"

    context_attribute: Any
    messages: Any
    status_attribute: Any
    updated_attribute: Any
    owner_attribute: Any
    idempotency_attribute: Any
    max_input_bytes: Any
    max_context_bytes: Any
    lease: Any
    on_busy: Any
    busy_timeout: Any
    history: Any
    pin_instruction: Any
    inject: Any
