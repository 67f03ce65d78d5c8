"""The verified options of `@agent` and `@agent_session`, and the names of the generated actions.

A field with a rule is a simple value: the rule verifies and converts it. To add such an option, write the
field here, and the keyword in the signature and the docstring of the decorator. A value that a rule cannot
describe needs a verifier in `_dsl/verifiers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from agentsession._option_rules import choice, count, count_from_0, duration, size, switch
from agentsession._prompt import Template
from agentsession._schema import InputSchema, OutputSchema, Schema
from agentsession._tools.definition import Tool
from agentsession.context import Message

OutputMode = Literal["auto", "schema", "prompt"]
OUTPUT_MODES: tuple[OutputMode, ...] = ("auto", "schema", "prompt")

OnToolError = Literal["continue", "halt"]
ON_TOOL_ERROR: tuple[OnToolError, ...] = ("continue", "halt")

OnBudget = Literal["warn", "halt"]
ON_BUDGET: tuple[OnBudget, ...] = ("warn", "halt")

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
"""The methods that a `hooks` object may have."""

OnBusy = Literal["raise", "wait"]
ON_BUSY: tuple[OnBusy, ...] = ("raise", "wait")

Layout = Literal["document", "rows"]
DOCUMENT: Layout = "document"
ROWS: Layout = "rows"
LAYOUTS = (DOCUMENT, ROWS)
"""All messages in the context attribute, or each in its own row."""

History: TypeAlias = Callable[[tuple[Message, ...]], Any] | None

OWN_PROVIDERS = frozenset({"echo"})
"""The providers of the library itself, as in `echo:`. Their clients need no model."""

_CLIENT = re.compile(r"(?P<provider>[A-Za-z0-9_.-]+):(?P<model>[^\s\0\ud800-\udfff]*)")


@dataclass(frozen=True)
class Client:
    """A model to ask: its id `provider:model`, and options that are never stored, logged or shown."""

    id: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def provider(self) -> str:
        return self.id.partition(":")[0]

    @property
    def model(self) -> str:
        return self.id.partition(":")[2]

    @classmethod
    def parse(cls, value: Any) -> Client:
        """Return the client of `"provider:model"` or `("provider:model", {…})`.

        Raises:
            ValueError: The value is neither. The message never shows the options.
        """
        name, options = value if isinstance(value, tuple) and len(value) == 2 else (value, {})
        if not isinstance(name, str) or not isinstance(options, Mapping):
            raise ValueError(f"a {type(value).__name__} is not a client")  # noqa: TRY004
        found = _CLIENT.fullmatch(name)
        if found is None or not (found["model"] or found["provider"] in OWN_PROVIDERS):
            raise ValueError(f"{name!r} is not of the form 'provider:model'")
        return cls(name, dict(options))


@dataclass(frozen=True, eq=False)
class AgentOptions:
    """The options of `@agent`. Equal to itself only: a class that is defined again is another agent."""

    qualified_name: str
    client: Client
    template: Template
    instruction_schema: Schema
    input: InputSchema
    output: OutputSchema
    provider: Any
    tools: tuple[Tool, ...]
    hooks: Any
    output_mode: Annotated[
        OutputMode, choice(OUTPUT_MODES, "it says how the model is asked for structured output")
    ]
    timeout: Annotated[float, duration("a model call without an end would keep its session busy", "120.0")]
    retries: Annotated[int, count_from_0("it is a number of attempts", "2")]
    output_retries: Annotated[int, count_from_0("it is a number of attempts", "1")]
    max_iterations: Annotated[int, count("a model could ask for tools without end", "10")]
    tool_timeout: Annotated[float, duration("a tool call without an end would keep its turn open")]
    on_tool_error: Annotated[
        OnToolError, choice(ON_TOOL_ERROR, "it says what happens to a turn when a tool fails")
    ]
    approval_timeout: Annotated[
        float | None, duration("a call waits this long for a person's decision", optional=True)
    ]
    token_budget: Annotated[int | None, count("it limits the tokens of a turn", "50_000", optional=True)]
    on_budget: Annotated[
        OnBudget, choice(ON_BUDGET, "it says what happens to a turn that has used its tokens")
    ]

    def tool_named(self, name: str) -> Tool | None:
        return next((tool for tool in self.tools if tool.name == name), None)

    def client_for(self, client_id: str | None, options: Mapping[str, Any] | None) -> Client:
        """Return the client of one turn. The declared options go to the declared client only."""
        if client_id is None or client_id == self.client.id:
            return Client(self.client.id, {**self.client.options, **(options or {})})
        return Client(client_id, dict(options or {}))


@dataclass(frozen=True)
class SessionOptions:
    """The options of `@agent_session`."""

    context_attribute: str
    status_attribute: str | None
    updated_attribute: str | None
    owner_attribute: str | None
    idempotency_attribute: str | None
    history: History
    messages: Annotated[Layout, choice(LAYOUTS, "it says where the messages are stored")]
    max_input_bytes: Annotated[int, size("it limits an input", "16 * 1024 * 1024")]
    max_context_bytes: Annotated[int, size("it limits a conversation", "64 * 1024 * 1024")]
    lease: Annotated[float, duration("another process may take over the turn of a dead one after it")]
    on_busy: Annotated[OnBusy, choice(ON_BUSY, "it says what an action does while a turn is open")]
    busy_timeout: Annotated[float, duration("it limits the wait for a busy session")]
    history_turns: Annotated[
        int | None, count("it says how many turns the model is shown", "40", optional=True)
    ]
    pin_instruction: Annotated[bool, switch("it says which instruction later turns have", "False")]
    inject: Annotated[bool, switch("it says whether the actions become methods of the model", "True")]

    @cached_property
    def managed(self) -> tuple[str, ...]:
        """The attributes that only the library writes once the record exists."""
        names = (self.context_attribute, self.status_attribute, self.updated_attribute)
        return tuple(name for name in names if name is not None)

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """All attributes that the library writes or queries."""
        names = (self.owner_attribute, self.idempotency_attribute)
        return (*self.managed, *(name for name in names if name is not None))


def _with_twins(*names: str) -> frozenset[str]:
    """Return the names with those of their async, stream and async stream forms."""
    streamed = {f"{prefix}{name}" for name in names for prefix in ("stream_", "astream_")}
    return frozenset(names) | {f"a{name}" for name in names} | streamed


AGENT_NAMES = frozenset({"call", "acall", "stream", "astream"})
"""The actions of an agent. A model that already uses one of the names is refused at import."""
SESSION_NAMES = (
    AGENT_NAMES
    | _with_twins("start_session", "continue_session", "resume_session")
    | {"cancel_session", "acancel_session", "get_context", "aget_context"}
    | {"last_result", "last_turn", "approvals"}
)
"""The actions of a session."""
