"""The form in which results of tool calls are stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from agentsession._json_values import storable_text
from agentsession._schema import SchemaMismatch
from agentsession._tools.tool_context import Halt
from agentsession._turn.active_turn import ActiveTurn
from agentsession._turn.effects import ToolResult
from agentsession._turn.model_texts import too_large

FOR_RESULTS = 7 / 8
"""The part of `max_context_bytes` that results may fill. The rest is left for the replies to them."""


def storable_results(active: ActiveTurn, results: Iterable[ToolResult]) -> Iterator[ToolResult]:
    """Yield each result as it is stored.

    One that does not fit into the session is an error of its tool, which has run: it must not make the
    session unusable.
    """
    size, limit = active.size, active.plan.max_bytes * FOR_RESULTS
    for result in results:
        taken = len(msgspec.json.encode((result.text, result.shown)))
        if active.is_stored and size + taken > limit:
            yield _unusable(result, too_large(taken))
        else:
            size += taken
            yield result if result.halt is None else _with_output(active, result, result.halt)


def _with_output(active: ActiveTurn, result: ToolResult, halt: Halt) -> ToolResult:
    """Return a halting result with the agent's output as its text; a value that does not fit is an error."""
    output = active.plan.agent.output
    try:
        text = storable_text(output.encode(halt.value))
        output.parse(text)
    except SchemaMismatch as mismatch:
        return _unusable(result, f"The tool ended the turn with a value that does not fit: {mismatch}")
    return msgspec.structs.replace(result, text=text, shown=None)


def _unusable(result: ToolResult, found: str) -> ToolResult:
    """Return the failed result of a tool that has run."""
    has_run = result.has_run or result.outcome != "failed"
    return msgspec.structs.replace(
        result, outcome="failed", text=found, shown=None, halt=None, has_run=has_run
    )
