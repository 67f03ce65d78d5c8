"""The tool loop as a pure machine: whatever the model asks for, whatever the tools do, and wherever processes
end, what was stored stays, no call runs that must not, and each prompt is valid."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentsession import agent, info, tool
from tests.support.memory_store import Memory
from tests.support.tool_loop_simulation import Play

MORE = int(os.environ.get("AGENTSESSION_TEST_EXAMPLES", "0"))
"""How many plays to try instead of the same few in each run."""


@tool
def plain(n: int) -> int:
    """Must not run twice."""
    raise AssertionError(n)


@tool(idempotent=True)
def again(n: int) -> int:
    """May run twice."""
    raise AssertionError(n)


@tool(needs_approval=True)
def ask(n: int) -> int:
    """Somebody has to approve it."""
    raise AssertionError(n)


@tool(needs_approval=True, idempotent=True)
def ask_again(n: int) -> int:
    """Once approved, it may run twice."""
    raise AssertionError(n)


@tool(needs_approval=lambda arguments: arguments["n"] > 5)
def ask_if_big(n: int) -> int:
    """Somebody has to approve it sometimes."""
    raise AssertionError(n)


TOOLS = [plain, again, ask, ask_again, ask_if_big]
DECLARED: dict[str, dict[str, Any]] = {
    "usual": {},
    "halting": {"on_tool_error": "halt", "max_iterations": 3},
    "overdue": {"approval_timeout": 60.0},
}


@pytest.mark.parametrize("declared", DECLARED)
def test_stops_at_any_effect_lose_no_stored_result_and_run_no_forbidden_call(declared: str) -> None:
    @agent(client="echo:", instruction="You help.", tools=TOOLS, **DECLARED[declared])
    class Helper: ...

    options = info.agent_options(Helper)

    @settings(
        max_examples=MORE or 60,
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def play(data: Any) -> None:
        Play(options, data, Memory()).play()

    play()
