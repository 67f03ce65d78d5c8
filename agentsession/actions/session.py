"""The actions of a session: start, continue, resume, read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import peewee

from agentsession import info
from agentsession.actions import results
from agentsession.actions.intact import refuse_altered
from agentsession.actions.plan import ClientChoice, Options, plan_turn
from agentsession.context import Context
from agentsession.drive.perform import Storing, refuse_transaction
from agentsession.drive.sync import drive
from agentsession.errors import AgentSessionError, LeaseLost, SessionNotFound, StorageFailed, TurnFailed
from agentsession.options import AgentOptions
from agentsession.store.document import DocumentSession
from agentsession.store.opened import new_session, open_session
from agentsession.store.record import primary_key_of
from agentsession.turn import machine
from agentsession.turn.effects import Machine
from agentsession.turn.opening import accept_input

M = TypeVar("M", bound=peewee.Model)


def start_session(
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
) -> M:
    """Begin a conversation: store a new row with the user's first message, ask the model, store its reply.

    `input` fits the agent's `input_schema`: a value of it, a dict with its fields, or the bare text where
    it has one text field. `instruction_args` are the values of the instruction's variables; they are
    stored and used again on every turn. `attributes` are values for the row's other columns. `client` asks
    another model for this turn, and its id is stored; `client_options` are never stored.

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
    content = _accept(model, "start_session", input, run)
    plan, options = plan_turn(model, content, instruction_args, client, client_options, run, idempotency_key)
    session = new_session(model, info.session_options(model), attributes, actor, idempotency_key)
    record: M = _run(plan.agent, session, machine.start(plan), options)
    return record


def continue_session(
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
) -> M:
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
    content = _accept(model, "continue_session", input, run)
    plan, options = plan_turn(model, content, instruction_args, client, client_options, run, idempotency_key)
    opened = open_session(model, info.session_options(model), session, actor)
    record: M = _run(plan.agent, opened, machine.continue_(plan), options)
    return record


def resume_session(
    model: type[M],
    session: Any,
    *,
    instruction_args: Any = None,
    actor: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> M:
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
    _check(model, "resume_session", True)
    plan, options = plan_turn(model, "", instruction_args, client, client_options)
    opened = open_session(model, info.session_options(model), session, actor)
    record: M = _run(plan.agent, opened, machine.resume(plan), options)
    return record


def get_context(model: type[peewee.Model], session: Any, *, actor: Any = None) -> Context:
    """The whole conversation as frozen, typed values, read anew from the row; nothing is changed.

    Allowed inside a transaction. A row that never had a turn gives an empty context.

    Raises `SessionNotFound`, also for a session of another `actor`, and `ContextUnreadable` for a stored
    value that is no context of ours.

    ```python
    for message in ChatAgent.get_context(session.id).messages:
        print(message.role, message.text)
    ```
    """
    refuse_altered(model)
    key = primary_key_of(model, session)
    return open_session(model, info.session_options(model), key, actor).load().context


def _accept(model: type[Any], action: str, input: Any, run: bool) -> Any:
    _check(model, action, run)
    return accept_input(info.agent_options(model), input)


def _check(model: type[Any], action: str, run: bool) -> None:
    refuse_altered(model)
    if run:
        refuse_transaction(model, action)


def _run(agent: AgentOptions, session: DocumentSession, turn: Machine, options: Options) -> Any:
    try:
        outcome = drive(turn, Storing(agent, options, session))
    except BaseException as error:
        if session.turn is not None:
            results.remember(session.record, session.turn, None)
        if isinstance(error, AgentSessionError):
            _say_where(error, session)
        raise
    if session.turn is None:
        session.reflect()
    results.remember(session.record, outcome.turn, outcome.result)
    return session.record


def _say_where(error: AgentSessionError, session: DocumentSession) -> None:
    error.where = error.where or f"{info.place(session.model)} {session.key}"
    if isinstance(error, (TurnFailed, LeaseLost, SessionNotFound, StorageFailed)):
        error.session = session.record
    if isinstance(error, TurnFailed) and session.turn is not None:
        error.why = "the turn is stored as failed, and the user's words are kept"
        error.fix = "call resume_session to ask again, or continue_session with another message"
