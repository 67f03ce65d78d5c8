"""The texts that the library itself writes to the model, for example in place of a missing result."""

from __future__ import annotations

from agentsession._json_values import compact
from agentsession._options import AgentOptions
from agentsession._turn_state import ApprovalState

SILENT = "(no text)"
BEGINNING = "(The conversation begins.)"
ENDED = "(This was not answered.)"
UNKNOWN = "It is not known whether this call was carried out: its process ended before the result was stored."
NOT_RUN = "This call was not carried out."
REPEATED = (
    "This call was not carried out, because it repeats an earlier call of this turn: the same tool with "
    "equal arguments. Use the result of that call."
)
NOT_PREPARED = "It has run. Its result is not shown, since the turn was stopped."
LEFT_OUT = "This call was carried out. Its result is left out, since the turn failed afterwards."

MAX_NAMES = 20
"""The number of tool names in a list."""


def no_such_tool(agent: AgentOptions, name: str) -> str:
    names = ", ".join(tool.name for tool in agent.tools[:MAX_NAMES])
    return f"There is no tool {compact(name)}. " + (f"There are: {names}" if names else "There are no tools.")


def rejection(approval: ApprovalState) -> str:
    reason = f": {approval.reason}" if approval.reason else "."
    return f"The call was rejected, and not carried out{reason}"


def with_edited(arguments: str, result: str) -> str:
    """Return the result with the edited arguments, which the model did not choose."""
    return f"(The call was approved with other arguments: {arguments})\n{result}"


def too_large(size: int) -> str:
    return f"It has run, but its result of {size:,} bytes does not fit into the session (max_context_bytes)."


def timeout_text(seconds: float) -> str:
    return f"It did not end within {seconds:g} s, and may still be running."
