"""The tool loop as a pure machine, with arbitrary calls, results and ends of processes.

What is stored stays, no forbidden call runs, and each prompt is valid."""

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
"""The number of random simulations to try instead of the same ones in each run."""


@tool
def plain(n: int) -> int:
    """Must not run twice."""
    raise AssertionError(n)


@tool(idempotent=True)
def again(n: int) -> int:
    """May run twice."""
    raise AssertionError(n)


@tool(needs_approval=True)
def pay(n: int) -> int:
    """Needs an approval."""
    raise AssertionError(n)


@tool(needs_approval=True, idempotent=True)
def pay_again(n: int) -> int:
    """Needs an approval and may run twice."""
    raise AssertionError(n)


@tool(needs_approval=lambda arguments: arguments["n"] > 5)
def pay_if_big(n: int) -> int:
    """Needs an approval for large numbers."""
    raise AssertionError(n)


TOOLS = [plain, again, pay, pay_again, pay_if_big]
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
    def simulate(data: Any) -> None:
        Play(options, data, Memory()).play()

    simulate()
