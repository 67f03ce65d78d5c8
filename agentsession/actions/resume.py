"""Resume a session: its latest turn again."""

# The functions below are declarations: their decorator runs the action.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import Any

from agentsession._drive.performer import refuse_transaction
from agentsession._turn import machine
from agentsession.actions.action import Action
from agentsession.actions.prepare import ClientChoice, M, Options, checked_model, open_for_turn, plan_turn
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.actions.variants import astreamed, awaited, blocking, streamed


def _prepare(
    model: type[M],
    session: Any,
    *,
    instruction_args: Any = None,
    actor: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> Action[M]:
    declared = checked_model(model)
    refuse_transaction(declared, "resume_session")
    plan, options = plan_turn(declared.agent, declared, "", instruction_args, client, client_options)
    opened = open_for_turn(declared, session, actor)
    return Action(plan.agent, machine.resume(plan), options, opened, model, actor)


@blocking(_prepare)
def resume_session(
    model: type[M],
    session: Any,
    *,
    instruction_args: Any = None,
    actor: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> M:
    """Run the latest turn again, with its stored message.

    The turn may be pending, failed, interrupted, waiting for approvals that are decided, or abandoned by a
    process that died. It keeps its id, its message and the client that was chosen for it, unless `client`
    chooses another.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        instruction_args: Values of the instruction's variables, laid over the stored ones.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.

    Returns:
        The record, with its context, status and updated attributes refreshed. Its other unsaved changes
        stay.

    Raises:
        NothingToResume: The latest turn is completed, or there is none.
        SessionBusy: The turn is running.
        AgentSessionError: As `continue_session`.

    Example:
        ```python
        from agentsession.actions import resume_session, start_session

        session = start_session(ChatAgent, "Hello!", run=False)  # a web process stores
        resume_session(ChatAgent, session.id)  # a worker replies
        ```
    """
    ...


@awaited(_prepare)
async def aresume_session(
    model: type[M],
    session: Any,
    *,
    instruction_args: Any = None,
    actor: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> M:
    """Run the latest turn of a session again on an event loop.

    As `resume_session`. Cancelling the task ends the turn as `interrupted`, with the partial reply.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        instruction_args: Values of the instruction's variables, laid over the stored ones.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.

    Returns:
        The record, with its context, status and updated attributes refreshed. Its other unsaved changes
        stay.

    Raises:
        AgentSessionError: As `resume_session`.

    Example:
        ```python
        from agentsession.actions import aresume_session

        session = ChatAgent.start_session("Hello!", run=False)
        await aresume_session(ChatAgent, session.id)
        ```
    """
    ...


@streamed(_prepare)
def stream_resume_session(
    model: type[M],
    session: Any,
    *,
    instruction_args: Any = None,
    actor: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> TurnStream[M]:
    """Run the latest turn of a session again as a stream of events.

    As `resume_session`. The turn has begun when the function returns. Leaving the stream early ends it as
    `interrupted`, with the partial reply.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        instruction_args: Values of the instruction's variables, laid over the stored ones.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.

    Returns:
        A `TurnStream` of the turn's events. Its `session` is the record.

    Raises:
        AgentSessionError: As `resume_session`.

    Example:
        ```python
        from agentsession.actions import stream_resume_session

        session = ChatAgent.start_session("Hello!", run=False)
        with stream_resume_session(ChatAgent, session.id) as stream:
            for event in stream:
                if isinstance(event, TextDelta):
                    print(event.text, end="", flush=True)
        print(stream.result.usage.total_tokens)
        ```
    """
    ...


@astreamed(_prepare)
def astream_resume_session(
    model: type[M],
    session: Any,
    *,
    instruction_args: Any = None,
    actor: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> AsyncTurnStream[M]:
    """Run the latest turn of a session again as a stream of events, on an event loop.

    As `resume_session`. The turn begins when the stream is entered. Leaving it early ends the turn as
    `interrupted`, with the partial reply.

    Args:
        model: The class with `@agent_session`.
        session: The id of the session, or its record.
        instruction_args: Values of the instruction's variables, laid over the stored ones.
        actor: The owner, for a model with `owner_attribute`: a record, or its key.
        client: The model to ask in this turn, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`. They are never stored.

    Returns:
        An `AsyncTurnStream`, which begins the turn with `async with`, `await` or `async for`.

    Raises:
        AgentSessionError: As `resume_session`, when the stream is entered or read.

    Example:
        ```python
        from agentsession.actions import astream_resume_session

        session = ChatAgent.start_session("Hello!", run=False)
        async with astream_resume_session(ChatAgent, session.id) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    print(event.text, end="", flush=True)
        print(stream.result.usage.total_tokens)
        ```
    """
    ...
