"""A decorator DSL that turns a Peewee model into a persistent LLM agent session."""

from agentsession.actions import build_context, instruction_message, user_message, warm_up
from agentsession.actions.mixins import AgentActions, SessionActions
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.context import Context, Message, Result, Turn, TurnError, Usage
from agentsession.dsl.agent import agent
from agentsession.dsl.code_interface import code_interface
from agentsession.dsl.message import agent_message
from agentsession.dsl.message_fields import MessageFields
from agentsession.dsl.session import agent_session
from agentsession.errors import (
    AgentSessionError,
    ContextUnreadable,
    DslError,
    HookFailed,
    IdempotencyMismatch,
    InputInvalid,
    LayoutMismatch,
    LeaseLost,
    ManagedField,
    NoResult,
    NothingToResume,
    OutputInvalid,
    Problem,
    ProviderError,
    ProviderFailed,
    SessionBusy,
    SessionNotFound,
    StorageFailed,
    TransactionOpen,
    TurnCancelled,
    TurnFailed,
    UnsafeDatabase,
)
from agentsession.events import (
    Event,
    OutputRetry,
    PartialOutput,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    TurnFinished,
    TurnStarted,
)

__version__ = "0.1.0"

__all__ = [
    "AgentActions",
    "AgentSessionError",
    "AsyncTurnStream",
    "Context",
    "ContextUnreadable",
    "DslError",
    "Event",
    "HookFailed",
    "IdempotencyMismatch",
    "InputInvalid",
    "LayoutMismatch",
    "LeaseLost",
    "ManagedField",
    "Message",
    "MessageFields",
    "NoResult",
    "NothingToResume",
    "OutputInvalid",
    "OutputRetry",
    "PartialOutput",
    "Problem",
    "ProviderError",
    "ProviderFailed",
    "Result",
    "SessionActions",
    "SessionBusy",
    "SessionNotFound",
    "StorageFailed",
    "TextDelta",
    "ThinkingDelta",
    "ToolFinished",
    "ToolStarted",
    "TransactionOpen",
    "Turn",
    "TurnCancelled",
    "TurnError",
    "TurnFailed",
    "TurnFinished",
    "TurnStarted",
    "TurnStream",
    "UnsafeDatabase",
    "Usage",
    "agent",
    "agent_message",
    "agent_session",
    "build_context",
    "code_interface",
    "instruction_message",
    "user_message",
    "warm_up",
]
