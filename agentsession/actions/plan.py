"""From the arguments of an action to the plan of a turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias
from uuid import uuid4

from agentsession import info
from agentsession.errors import InputInvalid
from agentsession.options import AgentOptions, Client
from agentsession.turn.opening import Content, Plan

ClientChoice: TypeAlias = "str | tuple[str, Mapping[str, Any]] | None"
Options: TypeAlias = "Mapping[str, Any] | None"


def plan_turn(
    model: type[Any],
    content: Content,
    instruction_args: Any,
    client: ClientChoice,
    client_options: Options,
    run: bool,
) -> tuple[Plan, Options]:
    """The plan, and the client's options, which are kept out of it because they are never stored."""
    agent = info.agent_options(model)
    session = info.session_options(model) if info.is_session(model) else None
    chosen = _client(agent, client)
    if client_options is not None and not isinstance(client_options, Mapping):
        raise _invalid(agent, f"client_options is a {type(client_options).__name__}")
    plan = Plan(
        agent=agent,
        turn_id=uuid4().hex,
        claim_id=uuid4().hex,
        lease=session.lease if session else 0.0,
        pin_instruction=session.pin_instruction if session else False,
        content=content,
        instruction_args=instruction_args,
        client=chosen.id if chosen else None,
        run=run,
    )
    return plan, {**(chosen.options if chosen else {}), **(client_options or {})}


def _client(agent: AgentOptions, given: ClientChoice) -> Client | None:
    if given is None:
        return None
    try:
        return Client.parse(given)
    except ValueError as error:
        raise _invalid(agent, str(error)) from None


def _invalid(agent: AgentOptions, found: str) -> InputInvalid:
    return InputInvalid(
        found,
        where=f"{agent.place} client",
        why="the client says which model to ask, and how",
        fix='pass client="anthropic:claude-sonnet-4-20250514", client_options={"temperature": 0}',
    )
