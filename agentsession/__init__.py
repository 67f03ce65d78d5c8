"""A decorator DSL that turns a Peewee model into a persistent LLM agent session."""

from agentsession._dsl.agent import agent
from agentsession._dsl.code_interface import code_interface
from agentsession._dsl.message import agent_message
from agentsession._dsl.message_fields import MessageFields
from agentsession._dsl.session import agent_session
from agentsession._tools.definition import Tool
from agentsession._tools.marks import tool
from agentsession._tools.tool_context import Halt, ToolContext
from agentsession._tools.tool_options import Tokens
from agentsession._turn.effects import HookContext, ToolResult
from agentsession._turn_state import ApprovalState, Turn, TurnError, Usage
from agentsession.actions import (
    Approval,
    assistant_message,
    build_context,
    instruction_message,
    user_message,
    warm_up,
)
from agentsession.actions.mixins import AgentActions, SessionActions
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.context import Context, Message, Result
from agentsession.errors import (
    AgentSessionError,
    BudgetExceeded,
    ContextUnreadable,
    DslError,
    HookFailed,
    IdempotencyMismatch,
    InputInvalid,
    LayoutMismatch,
    LeaseLost,
    ManagedField,
    MaxIterations,
    NoResult,
    NothingToApprove,
    NothingToResume,
    OutputInvalid,
    Problem,
    ProviderCallError,
    ProviderFailed,
    SessionBusy,
    SessionNotFound,
    StorageFailed,
    ToolFailed,
    TransactionOpen,
    TurnCancelled,
    TurnFailed,
    UnsafeDatabase,
)
from agentsession.events import (
    ApprovalNeeded,
    Event,
    OutputRetry,
    PartialOutput,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    TurnFinished,
    TurnStarted,
)

__version__ = "0.1.0"

__all__ = [
    "AgentActions",
    "AgentSessionError",
    "Approval",
    "ApprovalNeeded",
    "ApprovalState",
    "AsyncTurnStream",
    "BudgetExceeded",
    "Context",
    "ContextUnreadable",
    "DslError",
    "Event",
    "Halt",
    "HookContext",
    "HookFailed",
    "IdempotencyMismatch",
    "InputInvalid",
    "LayoutMismatch",
    "LeaseLost",
    "ManagedField",
    "MaxIterations",
    "Message",
    "MessageFields",
    "NoResult",
    "NothingToApprove",
    "NothingToResume",
    "OutputInvalid",
    "OutputRetry",
    "PartialOutput",
    "Problem",
    "ProviderCallError",
    "ProviderFailed",
    "Result",
    "SessionActions",
    "SessionBusy",
    "SessionNotFound",
    "StorageFailed",
    "TextDelta",
    "ThinkingDelta",
    "Tokens",
    "Tool",
    "ToolContext",
    "ToolFailed",
    "ToolFinished",
    "ToolProgress",
    "ToolResult",
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
    "assistant_message",
    "build_context",
    "code_interface",
    "instruction_message",
    "tool",
    "user_message",
    "warm_up",
]
