"""What a turn may take, in tokens."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

from agentsession.errors import BudgetExceeded
from agentsession.turn.effects import Effect, Hook, HookContext
from agentsession.turn.exchange import Reply
from agentsession.turn.held import Held

WARNED = 0.8
"""The part of the budget from which on there is a warning."""

_log = logging.getLogger("agentsession")


def count_tokens(held: Held, reply: Reply) -> Generator[Effect, Any, None]:
    """Count what the turn has taken with this reply; raises `BudgetExceeded`, or lets it be logged once."""
    agent = held.plan.agent
    if agent.token_budget is None:
        return
    usage = held.facts().usage
    taken = usage.input_tokens + usage.output_tokens
    before = taken - reply.usage.input_tokens - reply.usage.output_tokens
    found = f"the turn has taken {taken:,} tokens, its budget is {agent.token_budget:,}"
    if agent.budget_strategy == "halt" and taken > agent.token_budget:
        raise BudgetExceeded(found)
    limit = WARNED * agent.token_budget
    if agent.budget_strategy == "warn" and before < limit <= taken:
        yield Hook(_warn, (agent.place, found), HookContext(held.turn.id, held.client, held.iteration))


def _warn(context: HookContext, value: tuple[str, str]) -> None:
    """Log that the budget is nearly used up. The driver has put the session into the context."""
    place, found = value
    extra = {"model": place, "session": context.session_id, "turn": context.turn}
    _log.warning("[%s %s turn %s] %s", place, context.session_id, context.turn, found, extra=extra)
