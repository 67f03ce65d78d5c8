"""A decorator DSL that turns a Peewee model into a persistent LLM agent session."""

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
from agentsession.dsl.agent import agent
from agentsession.dsl.code_interface import code_interface
from agentsession.dsl.message import agent_message
from agentsession.dsl.message_fields import MessageFields
from agentsession.dsl.session import agent_session
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
    ProviderError,
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
from agentsession.tools.definition import Tool
from agentsession.tools.halt import Halt
from agentsession.tools.limit import Tokens
from agentsession.tools.marks import tool
from agentsession.tools.tool_context import ToolContext
from agentsession.turn.effects import HookContext, ToolResult
from agentsession.turn_state import AskedApproval, Turn, TurnError, Usage

__version__ = "0.1.0"

__all__ = [
    "AgentActions",
    "AgentSessionError",
    "Approval",
    "ApprovalNeeded",
    "AskedApproval",
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
    "ProviderError",
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
