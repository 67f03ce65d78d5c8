"""What `@agent_session` was given, as the verifiers look at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentsession.dsl.model_draft import ModelDraft


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
