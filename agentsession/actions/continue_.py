"""Continue a session: its next turn."""

# The functions below are declarations: their decorator runs the action.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import Any

from agentsession._drive.performer import refuse_transaction
from agentsession._turn import machine
from agentsession._turn.plan import accept_input
from agentsession.actions.action import Action
from agentsession.actions.prepare import ClientChoice, M, Options, checked_model, open_for_turn, plan_turn
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.actions.variants import astreamed, awaited, blocking, streamed


def _prepare(
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
    declared = checked_model(model)
    if run:
        refuse_transaction(declared, "continue_session")
    content = accept_input(declared.agent, input)
    plan, options = plan_turn(
        declared.agent, declared, content, instruction_args, client, client_options, run, idempotency_key
    )
    opened = open_for_turn(declared, session, actor, plan.turn_id if plan.keyed else None)
    return Action(plan.agent, machine.continue_(plan), options, opened, model, actor)


@blocking(_prepare)
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
    """Store the user's next message, ask the model with the conversation, and store its reply.

    The message is committed before the model is asked. `run=False` stores it as `pending` and returns;
    `resume_session` runs the turn later, in any process. If the process of an earlier turn died and its
    lease has run out, that turn is stored as `interrupted`: its message stays in the transcript and is not
    shown to the model.

    An `idempotency_key` belongs to its session. A call that repeats one returns the stored result of that
    turn, or raises the error with which it ended, also after later turns.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        input: The user's message: a value of the input schema, a dict with its fields, or a text.
        instruction_args: Values of the instruction's variables, laid over the stored ones.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        idempotency_key: A text of up to 255 characters. A repeated call with it runs no second turn.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.
        run: False stores the turn as `pending`, for `resume_session`.

    Returns:
        The record, with its context, status and updated attributes refreshed. Its other unsaved changes
        stay.

    Raises:
        SessionNotFound: No session has this id, or it belongs to another `actor`.
        SessionBusy: A turn is running, or waits for `resume_session`. With `on_busy="wait"`, only after
            `busy_timeout` seconds. Nothing is stored.
        InputInvalid: An argument does not fit. Nothing is stored.
        IdempotencyMismatch: The key was used with another input. Nothing is stored.
        TransactionOpen: A transaction is open and `run` is true. Nothing is stored.
        ContextUnreadable: This version cannot read the stored context. Nothing is stored.
        TurnFailed: `ProviderFailed`, `OutputInvalid` and others: the turn is stored as failed, and the
            message is kept.
        LeaseLost: Another process took the turn over. `.result` is the reply, if there is one.
        StorageFailed: The database failed after the model was asked. `.result` is the reply.

    Example:
        ```python
        from agentsession.actions import continue_session

        continue_session(ChatAgent, session.id, "And what does it cost?")
        ```
    """
    ...


@awaited(_prepare)
async def acontinue_session(
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
    """Run the next turn of a session on an event loop.

    As `continue_session`. Cancelling the task ends the turn as `interrupted`, with the partial reply.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        input: The user's message: a value of the input schema, a dict with its fields, or a text.
        instruction_args: Values of the instruction's variables, laid over the stored ones.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        idempotency_key: A text of up to 255 characters. A repeated call with it runs no second turn.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.
        run: False stores the turn as `pending`, for `resume_session`.

    Returns:
        The record, with its context, status and updated attributes refreshed. Its other unsaved changes
        stay.

    Raises:
        AgentSessionError: As `continue_session`.

    Example:
        ```python
        from agentsession.actions import acontinue_session

        await acontinue_session(ChatAgent, session.id, "And what does it cost?")
        ```
    """
    ...


@streamed(_prepare)
def stream_continue_session(
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
) -> TurnStream[M]:
    """Run the next turn of a session as a stream of events.

    As `continue_session`. The message is stored when the function returns. Leaving the stream early ends
    the turn as `interrupted`, with the partial reply.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        input: The user's message: a value of the input schema, a dict with its fields, or a text.
        instruction_args: Values of the instruction's variables, laid over the stored ones.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        idempotency_key: A text of up to 255 characters. A repeated call with it runs no second turn.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.
        run: Must be True: a stream runs its turn now.

    Returns:
        A `TurnStream` of the turn's events. Its `session` is the record.

    Raises:
        AgentSessionError: As `continue_session`.

    Example:
        ```python
        from agentsession.actions import stream_continue_session

        with stream_continue_session(ChatAgent, session.id, "Tell me more") as stream:
            for event in stream:
                if isinstance(event, TextDelta):
                    print(event.text, end="", flush=True)
        print(stream.result.usage.total_tokens)
        ```
    """
    ...


@astreamed(_prepare)
def astream_continue_session(
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
) -> AsyncTurnStream[M]:
    """Run the next turn of a session as a stream of events, on an event loop.

    As `continue_session`. The turn begins, and the message is stored, when the stream is entered. Leaving
    it early ends the turn as `interrupted`, with the partial reply.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        input: The user's message: a value of the input schema, a dict with its fields, or a text.
        instruction_args: Values of the instruction's variables, laid over the stored ones.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        idempotency_key: A text of up to 255 characters. A repeated call with it runs no second turn.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.
        run: Must be True: a stream runs its turn now.

    Returns:
        An `AsyncTurnStream`, which begins the turn with `async with`, `await` or `async for`.

    Raises:
        AgentSessionError: As `continue_session`, when the stream is entered or read.

    Example:
        ```python
        from agentsession.actions import astream_continue_session

        async with astream_continue_session(ChatAgent, session.id, "Tell me more") as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    print(event.text, end="", flush=True)
        print(stream.result.usage.total_tokens)
        ```
    """
    ...
