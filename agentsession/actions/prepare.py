"""What the actions prepare alike: the checks before the row is read, the plan of a turn, its session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import peewee

from agentsession._drive.performer import refuse_transaction
from agentsession._json_values import unstorable
from agentsession._options import AgentOptions, Client
from agentsession._store.declared import Declared
from agentsession._store.layout import selection_for_turn
from agentsession._store.message_table import TURN_LENGTH as MAX_KEY
from agentsession._store.session_store import StoredSession, open_session
from agentsession._turn.plan import InputContent, Plan, refuse_large_input
from agentsession.actions.late_checks import refuse_altered
from agentsession.errors import InputInvalid

M = TypeVar("M", bound=peewee.Model)

ClientChoice: TypeAlias = str | tuple[str, Mapping[str, Any]] | None
"""The model to ask: its id, or its id and its options. None: the one that the agent declares."""

Options: TypeAlias = Mapping[str, Any] | None
"""The options of a client."""


def checked_model(model: type[Any], action: str, *, asks: bool) -> Declared:
    """Return the resolved options of the model.

    Raise `DslError` for an altered model, and `TransactionOpen` for an action that asks inside a transaction.
    """
    declared = Declared.of(model)
    refuse_altered(declared)
    if asks:
        refuse_transaction(declared, action)
    return declared


def open_for_turn(declared: Declared, session: Any, actor: Any, turn: str | None = None) -> StoredSession:
    """Return the session, which loads the messages that a turn needs, and those of the turn `turn`."""
    return open_session(declared, session, actor, selection_for_turn(declared.options, turn))


def plan_turn(
    agent: AgentOptions,
    declared: Declared | None,
    content: InputContent,
    instruction_args: Any,
    client: ClientChoice,
    client_options: Options,
    run: bool = True,
    key: str | None = None,
) -> tuple[Plan, Options]:
    """Return the plan and the client's options, which are kept out of it because they are never stored.

    `declared` is None for an agent without sessions.
    """
    chosen = _client(agent, client)
    if client_options is not None and not isinstance(client_options, Mapping):
        raise _invalid(agent, f"client_options is a {type(client_options).__name__}")
    of_session = {} if declared is None else _of_session(declared, content)
    plan = Plan(
        agent=agent,
        turn_id=uuid4().hex if key is None else _accepted_key(agent, key),
        claim_id=uuid4().hex,
        keyed=key is not None,
        content=content,
        instruction_args=instruction_args,
        client=chosen.id if chosen else None,
        run=run,
        **of_session,
    )
    return plan, {**(chosen.options if chosen else {}), **(client_options or {})}


def _of_session(declared: Declared, content: InputContent) -> dict[str, Any]:
    """Return what the session's options say of a turn."""
    options = declared.options
    refuse_large_input(declared.agent, content, options.max_input_bytes)
    # Inside a transaction it would wait for a turn that waits for the transaction.
    waits = options.on_busy == "wait" and not declared.in_caller_transaction
    return {
        "lease": options.lease,
        "patience": options.busy_timeout if waits else 0.0,
        "max_bytes": options.max_context_bytes,
        "pin_instruction": options.pin_instruction,
        "history_turns": options.history_turns,
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
        where=f"{agent.qualified_name} idempotency_key",
        why="it becomes the id of the turn, by which a repeated call is known; nothing was stored",
        fix="pass a text that is new for each message, such as the request's Idempotency-Key header",
    )


def _client(agent: AgentOptions, choice: ClientChoice) -> Client | None:
    if choice is None:
        return None
    try:
        return Client.parse(choice)
    except ValueError as error:
        raise _invalid(agent, str(error)) from None


def _invalid(agent: AgentOptions, found: str) -> InputInvalid:
    return InputInvalid(
        found,
        where=f"{agent.qualified_name} client",
        why="the client says which model to ask, and how",
        fix='pass client="anthropic:claude-sonnet-4-20250514", client_options={"temperature": 0}',
    )
