"""What each action of a session is, up to the moment when it is run. `ways.py` says how."""

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
from agentsession._store.new_session import new_session
from agentsession._store.session_store import StoredSession, open_session
from agentsession._turn import machine
from agentsession._turn.plan import InputContent, Plan, accept_input, refuse_large_input
from agentsession.actions.action import Action
from agentsession.actions.late_checks import refuse_altered
from agentsession.errors import InputInvalid

M = TypeVar("M", bound=peewee.Model)


def starting(
    model: type[M],
    input: Any,
    *,
    instruction_args: Any = None,
    attributes: Mapping[str, Any] | None = None,
    actor: Any = None,
    idempotency_key: str | None = None,
    client: ClientChoice = None,
    client_options: Options = None,
    run: bool = True,
) -> Action[M]:
    """Begin a conversation: store a new row with the user's first message, ask the model, store its reply.

    `input` fits the agent's `input_schema`: a value of it, a dict with its fields, or the bare text where
    only one text field has no default. `instruction_args` are the values of the instruction's variables;
    they are stored and used again on every turn. `attributes` are values for the row's other columns.
    `client` asks another model for this turn, and its id is stored; `client_options` are never stored.

    `actor` is whose session it is, where the model has an `owner_attribute`. `idempotency_key` is a text that
    stands for this one call: repeated with the same key and input, it gives the stored session and result
    without asking the model again, runs the turn if it has failed, and is refused (or waits) while the
    first call runs.

    The row and the message are committed before the model is asked. `run=False` stores them with the
    status `pending` and returns; `resume_session` runs the turn later, from any process.

    Returns the record: `last_result` is this turn's result, `last_turn` its state.

    Raises `InputInvalid`, `IdempotencyMismatch` (the key was used for another input) and `TransactionOpen`
    before anything is stored; `ProviderFailed` and `OutputInvalid` (both `TurnFailed`, with `.session`) when
    the turn is stored as failed and the words are kept; `StorageFailed` when the database went away after the
    model was asked, with the reply as `.result`; `peewee.IntegrityError` when the row itself does not fit
    the table.

    ```python
    session = ChatAgent.start_session("Hello!", instruction_args={"company_name": "Acme"})
    print(session.id, session.last_result.text)
    ```
    """
    declared = _checked(model, "start_session", run)
    content = accept_input(declared.agent, input)
    plan, options = plan_turn(
        declared.agent, declared, content, instruction_args, client, client_options, run, idempotency_key
    )
    session = new_session(declared, attributes, actor, idempotency_key)
    return Action(plan.agent, machine.start(plan), options, session, model, actor)


def continuing(
    model: type[M],
    session: Any,
    input: Any,
    *,
    instruction_args: Any = None,
    actor: Any = None,
    idempotency_key: str | None = None,
    client: ClientChoice = None,
    client_options: Options = None,
    run: bool = True,
) -> Action[M]:
    """Say the next thing: store the message, ask the model with the whole conversation, store the reply.

    `session` is an id or a record. A record is read anew, returned with its context, status and updated
    attributes refreshed, and its other unsaved changes left alone. `instruction_args` given here are laid
    over the stored ones and kept. The other arguments are those of `start_session`; an `idempotency_key` is
    one of this session's. A turn whose key is repeated after others have followed gives its stored result, or
    raises the error with which it ended.

    The message is committed before the model is asked. Where the process of an earlier turn was killed and
    its lease has run out, that turn is closed as `interrupted`: its words stay in the transcript and are
    not shown to the model.

    Raises `SessionNotFound` (also for another actor's session), `SessionBusy` (a turn is running, or one
    waits for `resume_session`; with `on_busy="wait"` only after `busy_timeout` seconds), `InputInvalid`,
    `IdempotencyMismatch`, `TransactionOpen` and `ContextUnreadable` before anything is stored;
    `ProviderFailed` and `OutputInvalid` when the turn is stored as failed; `LeaseLost` when another process
    took the turn over meanwhile, and `StorageFailed` when the database went away, both with the reply as
    `.result`.

    ```python
    session.continue_session("And what does it cost?")
    ChatAgent.continue_session(session.id, {"message": "The same, by id"})
    ```
    """
    declared = _checked(model, "continue_session", run)
    content = accept_input(declared.agent, input)
    plan, options = plan_turn(
        declared.agent, declared, content, instruction_args, client, client_options, run, idempotency_key
    )
    opened = _opened(declared, session, actor, plan.turn_id if plan.keyed else None)
    return Action(plan.agent, machine.continue_(plan), options, opened, model, actor)


def resuming(
    model: type[M],
    session: Any,
    *,
    instruction_args: Any = None,
    actor: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> Action[M]:
    """Run the latest turn again, with the words that are stored: one that is pending, failed, interrupted, or
    was left by a process that died.

    The turn keeps its id, and asks the client that was given for it, if one was, unless another is given now.
    `instruction_args` are as in `continue_session`. The returned record is as there, too.

    Raises `NothingToResume` when the latest turn is completed or there is none, `SessionBusy` when it is
    running, otherwise what `continue_session` raises.

    ```python
    session = ChatAgent.start_session("Hello!", run=False)     # a web process stores …
    ChatAgent.resume_session(session.id)                       # … a worker answers
    ```
    """
    declared = _checked(model, "resume_session", run=True)
    plan, options = plan_turn(declared.agent, declared, "", instruction_args, client, client_options)
    opened = _opened(declared, session, actor)
    return Action(plan.agent, machine.resume(plan), options, opened, model, actor)


def cancelling(model: type[M], session: Any, *, actor: Any = None) -> Action[M]:
    """Stop the turn that is open, in whichever process it runs: it is stored as `interrupted` at once, with
    what had come of the reply.

    A stream of it notices within a third of the lease, a plain call when the model answers or times out; both
    raise `TurnCancelled` and store nothing more. The words stay in the transcript, and `resume_session` can
    run the turn again. A turn that has ended stays as it is: `last_turn.status` of the returned record tells
    which.

    Allowed inside a transaction. Raises `SessionNotFound`, `NoResult` where there is no turn at all, and
    `ContextUnreadable`.

    ```python
    session = ChatAgent.cancel_session(session.id)
    print(session.last_turn.status)
    ```
    """
    declared = _checked(model, "cancel_session", run=False)
    opened = _opened(declared, session, actor)
    return Action(declared.agent, machine.cancel(), None, opened)


def _checked(model: type[Any], action: str, run: bool) -> Declared:
    """Resolve the model's options, and refuse a model or a transaction that the action cannot work with."""
    declared = Declared.of(model)
    refuse_altered(declared)
    if run:
        refuse_transaction(declared, action)
    return declared


def _opened(declared: Declared, session: Any, actor: Any, turn: str | None = None) -> StoredSession:
    return open_session(declared, session, actor, selection_for_turn(declared.options, turn))


ClientChoice: TypeAlias = "str | tuple[str, Mapping[str, Any]] | None"
Options: TypeAlias = "Mapping[str, Any] | None"


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
    waits = options.on_busy == "wait" and not declared.inside
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
        where=f"{agent.qualified_name} client",
        why="the client says which model to ask, and how",
        fix='pass client="anthropic:claude-sonnet-4-20250514", client_options={"temperature": 0}',
    )
