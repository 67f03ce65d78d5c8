"""From the arguments of an action to the plan of a turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias
from uuid import uuid4

from agentsession import info
from agentsession.errors import InputInvalid
from agentsession.json_values import unstorable
from agentsession.options import AgentOptions, Client
from agentsession.store.connection import in_transaction
from agentsession.store.message_rows import TURN_LENGTH as MAX_KEY
from agentsession.turn.opening import Content, Plan, refuse_large_input

ClientChoice: TypeAlias = "str | tuple[str, Mapping[str, Any]] | None"
Options: TypeAlias = "Mapping[str, Any] | None"


def plan_turn(
    model: type[Any],
    content: Content,
    instruction_args: Any,
    client: ClientChoice,
    client_options: Options,
    run: bool = True,
    key: str | None = None,
) -> tuple[Plan, Options]:
    """The plan, and the client's options, which are kept out of it because they are never stored."""
    agent = info.agent_options(model)
    chosen = _client(agent, client)
    if client_options is not None and not isinstance(client_options, Mapping):
        raise _invalid(agent, f"client_options is a {type(client_options).__name__}")
    declared = _of_session(agent, model, content) if info.is_session(model) else {}
    plan = Plan(
        agent=agent,
        turn_id=uuid4().hex if key is None else _accepted_key(agent, key),
        claim_id=uuid4().hex,
        keyed=key is not None,
        content=content,
        instruction_args=instruction_args,
        client=chosen.id if chosen else None,
        run=run,
        **declared,
    )
    return plan, {**(chosen.options if chosen else {}), **(client_options or {})}


def _of_session(agent: AgentOptions, model: type[Any], content: Content) -> dict[str, Any]:
    """What the session's options say of a turn."""
    options = info.session_options(model)
    refuse_large_input(agent, content, options.max_input_bytes)
    # Inside a transaction it would wait for a turn that waits for the transaction.
    waits = options.on_busy == "wait" and not in_transaction(model)
    return {
        "lease": options.lease,
        "patience": options.busy_timeout if waits else 0.0,
        "max_bytes": options.max_context_bytes,
        "pin_instruction": options.pin_instruction,
        "history": options.history,
    }


def _accepted_key(agent: AgentOptions, key: Any) -> str:
    if not isinstance(key, str):
        found = f"idempotency_key is a {type(key).__name__}, not a str"
    elif not key.strip() or len(key) > MAX_KEY:
        found = f"idempotency_key has {len(key.strip())} characters, not 1 to {MAX_KEY}"
    elif any(unstorable(key)):
        found = f"idempotency_key {next(unstorable(key)).removeprefix('it ')}"
    else:
        return key
    raise InputInvalid(
        found,
        where=f"{agent.place} idempotency_key",
        why="it becomes the id of the turn, by which a repeated call is known; nothing was stored",
        fix="pass a text that is new for each message, such as the request's Idempotency-Key header",
    )


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
