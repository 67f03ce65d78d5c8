"""What the decorators were given: validated, frozen, with the derived things computed once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from agentsession._prompt import Template
from agentsession._schema import InputSchema, OutputSchema, Schema
from agentsession._tools.definition import Tool

OutputMode = Literal["auto", "schema", "prompt"]
OUTPUT_MODES: tuple[OutputMode, ...] = ("auto", "schema", "prompt")

OnToolError = Literal["continue", "halt"]
ON_TOOL_ERROR: tuple[OnToolError, ...] = ("continue", "halt")

OnBudget = Literal["warn", "halt"]
BUDGET_STRATEGIES: tuple[OnBudget, ...] = ("warn", "halt")

HOOKS = (
    "before_call",
    "after_render",
    "after_call",
    "on_error",
    "on_iteration_start",
    "prepare_messages",
    "prepare_tool_results",
    "on_iteration_complete",
)
"""The methods that an object given as `hooks` may have."""

OnBusy = Literal["raise", "wait"]
ON_BUSY: tuple[OnBusy, ...] = ("raise", "wait")

Layout = Literal["document", "rows"]
DOCUMENT: Layout = "document"
ROWS: Layout = "rows"
LAYOUTS = (DOCUMENT, ROWS)
"""All messages in the context attribute, or each in a row of its own."""

_CLIENT = re.compile(r"(?P<provider>[A-Za-z0-9_.-]+):(?P<model>[^\s\0\ud800-\udfff]*)")


@dataclass(frozen=True)
class Client:
    """Which model to ask: an id `provider:model`, and options that are never stored, logged or shown."""

    id: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def provider(self) -> str:
        return self.id.partition(":")[0]

    @property
    def model(self) -> str:
        return self.id.partition(":")[2]

    @classmethod
    def parse(cls, given: Any) -> Client:
        """From `"provider:model"` or `("provider:model", {…})`; a `ValueError` never shows the options."""
        name, options = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
        if not isinstance(name, str) or not isinstance(options, Mapping):
            raise ValueError(f"a {type(given).__name__} is no client")  # noqa: TRY004
        found = _CLIENT.fullmatch(name)
        if found is None or not (found["model"] or found["provider"] == "echo"):
            raise ValueError(f"{name!r} is not of the form 'provider:model'")
        return cls(name, dict(options))


@dataclass(frozen=True, eq=False)
class AgentOptions:
    """The options of `@agent`. Equal to itself only: a class defined again is another agent."""

    place: str
    client: Client
    template: Template
    instruction_schema: Schema
    input: InputSchema
    output: OutputSchema
    provider: Any
    output_mode: OutputMode
    timeout: float
    retries: int
    output_retries: int
    tools: tuple[Tool, ...]
    max_iterations: int
    tool_timeout: float
    on_tool_error: OnToolError
    approval_timeout: float | None
    hooks: Any
    token_budget: int | None
    on_budget: OnBudget

    def tool_named(self, name: str) -> Tool | None:
        return next((tool for tool in self.tools if tool.name == name), None)

    def client_for(self, client_id: str | None, options: Mapping[str, Any] | None) -> Client:
        """The client of one turn. The declared options go to the declared client only."""
        if client_id is None or client_id == self.client.id:
            return Client(self.client.id, {**self.client.options, **(options or {})})
        return Client(client_id, dict(options or {}))


@dataclass(frozen=True)
class SessionOptions:
    """The options of `@agent_session`."""

    context_attribute: str
    messages: Layout
    status_attribute: str | None
    updated_attribute: str | None
    owner_attribute: str | None
    idempotency_attribute: str | None
    max_input_bytes: int
    max_context_bytes: int
    lease: float
    on_busy: OnBusy
    busy_timeout: float
    history: Any
    pin_instruction: bool
    inject: bool

    @cached_property
    def managed(self) -> tuple[str, ...]:
        """The attributes that belong to the library once the record exists."""
        names = (self.context_attribute, self.status_attribute, self.updated_attribute)
        return tuple(name for name in names if name is not None)

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """All attributes that the library writes or looks for."""
        names = (self.owner_attribute, self.idempotency_attribute)
        return (*self.managed, *(name for name in names if name is not None))
