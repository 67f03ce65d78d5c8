"""Start a session: its first turn."""

# The functions below are declarations: their decorator runs the action.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentsession._drive.performer import refuse_transaction
from agentsession._store.new_session import new_session
from agentsession._turn import machine
from agentsession._turn.plan import accept_input
from agentsession.actions.action import Action
from agentsession.actions.prepare import ClientChoice, M, Options, checked_model, plan_turn
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.actions.variants import astreamed, awaited, blocking, streamed


def _prepare(
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
    declared = checked_model(model)
    if run:
        refuse_transaction(declared, "start_session")
    content = accept_input(declared.agent, input)
    plan, options = plan_turn(
        declared.agent, declared, content, instruction_args, client, client_options, run, idempotency_key
    )
    session = new_session(declared, attributes, actor, idempotency_key)
    return Action(plan.agent, machine.start(plan), options, session, model, actor)


@blocking(_prepare)
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
    """Store a new session with the user's first message, ask the model, and store its reply.

    The row and the message are committed before the model is asked. `run=False` stores them with the status
    `pending` and returns; `resume_session` runs the turn later, in any process.

    A text is enough as `input` where only one text field of the input schema has no default. A call that
    repeats an `idempotency_key` with the same input returns the stored session without asking the model. It
    runs the turn again if the turn failed, and is refused (or waits) while the first call runs.

    Args:
        model: The class with `@agent_session`.
        input: The user's message: a value of the input schema, a dict with its fields, or a text.
        instruction_args: Values of the instruction's variables, stored for later turns.
        attributes: Values of the row's other columns, by their names.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        idempotency_key: A text of up to 255 characters. A repeated call with it runs no second turn.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.
        run: False stores the turn as `pending`, for `resume_session`.

    Returns:
        The record. `last_result` is the result of this turn, `last_turn` its state.

    Raises:
        InputInvalid: An argument does not fit. Nothing is stored.
        IdempotencyMismatch: The key was used with another input. Nothing is stored.
        TransactionOpen: A transaction is open and `run` is true. Nothing is stored.
        TurnFailed: `ProviderFailed`, `OutputInvalid` and others: the turn is stored as failed, the message
            is kept, and `.session` is the record.
        StorageFailed: The database failed after the model was asked. `.result` is the reply.
        peewee.IntegrityError: The row does not fit the table.

    Example:
        ```python
        from agentsession.actions import start_session

        session = start_session(ChatAgent, "Hello!", instruction_args={"company_name": "Acme"})
        print(session.id, session.last_result.text)
        ```
    """
    ...


@awaited(_prepare)
async def astart_session(
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
    """Start a session on an event loop.

    As `start_session`. Cancelling the task ends the turn as `interrupted`, with the partial reply.

    Args:
        model: The class with `@agent_session`.
        input: The user's message: a value of the input schema, a dict with its fields, or a text.
        instruction_args: Values of the instruction's variables, stored for later turns.
        attributes: Values of the row's other columns, by their names.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        idempotency_key: A text of up to 255 characters. A repeated call with it runs no second turn.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.
        run: False stores the turn as `pending`, for `resume_session`.

    Returns:
        The record. `last_result` is the result of this turn, `last_turn` its state.

    Raises:
        AgentSessionError: As `start_session`.

    Example:
        ```python
        from agentsession.actions import astart_session

        session = await astart_session(ChatAgent, "Hello!")
        print(session.last_result.text)
        ```
    """
    ...


@streamed(_prepare)
def stream_start_session(
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
) -> TurnStream[M]:
    """Start a session as a stream of events.

    As `start_session`. The message is stored when the function returns. Leaving the stream early ends the
    turn as `interrupted`, with the partial reply.

    Args:
        model: The class with `@agent_session`.
        input: The user's message: a value of the input schema, a dict with its fields, or a text.
        instruction_args: Values of the instruction's variables, stored for later turns.
        attributes: Values of the row's other columns, by their names.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        idempotency_key: A text of up to 255 characters. A repeated call with it runs no second turn.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.
        run: Must be True: a stream runs its turn now.

    Returns:
        A `TurnStream` of the turn's events. Its `session` is the record.

    Raises:
        AgentSessionError: As `start_session`.

    Example:
        ```python
        from agentsession.actions import stream_start_session

        with stream_start_session(ChatAgent, "Hello!") as stream:
            for event in stream:
                if isinstance(event, TextDelta):
                    print(event.text, end="", flush=True)
        print(stream.result.usage.total_tokens)
        ```
    """
    ...


@astreamed(_prepare)
def astream_start_session(
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
) -> AsyncTurnStream[M]:
    """Start a session as a stream of events, on an event loop.

    As `start_session`. The turn begins, and the message is stored, when the stream is entered. Leaving it
    early ends the turn as `interrupted`, with the partial reply.

    Args:
        model: The class with `@agent_session`.
        input: The user's message: a value of the input schema, a dict with its fields, or a text.
        instruction_args: Values of the instruction's variables, stored for later turns.
        attributes: Values of the row's other columns, by their names.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        idempotency_key: A text of up to 255 characters. A repeated call with it runs no second turn.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.
        run: Must be True: a stream runs its turn now.

    Returns:
        An `AsyncTurnStream`, which begins the turn with `async with`, `await` or `async for`.

    Raises:
        AgentSessionError: As `start_session`, when the stream is entered or read.

    Example:
        ```python
        from agentsession.actions import astream_start_session

        async with astream_start_session(ChatAgent, "Hello!") as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    print(event.text, end="", flush=True)
        print(stream.result.usage.total_tokens)
        ```
    """
    ...
