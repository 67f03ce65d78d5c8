"""Ask a model once, without a session."""

# The functions below that have no body are declarations: their decorator runs the action.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

import logging
from typing import Any

import msgspec

from agentsession import info
from agentsession._drive.performer import Performer
from agentsession._json_values import JsonMap
from agentsession._turn import machine
from agentsession._turn.effects import Outcome
from agentsession._turn.plan import Plan, render, settle_args
from agentsession.actions.action import Action
from agentsession.actions.messages import accepted_message, build_context
from agentsession.actions.prepare import ClientChoice, Options, checked_model, plan_turn
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.actions.variants import astreamed, awaited, blocking, streamed
from agentsession.context import Context, Message, Result, with_schema
from agentsession.errors import InputInvalid, ProviderFailed

_log = logging.getLogger("agentsession")


def _prepare(
    model: type[Any],
    context_or_input: Any,
    *,
    instruction_args: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> Action[None]:
    declared = checked_model(model) if info.is_session(model) else None
    agent = info.agent_options(model) if declared is None else declared.agent
    plan, options = plan_turn(agent, declared, "", instruction_args, client, client_options)
    is_context = isinstance(context_or_input, Context)
    item = context_or_input if is_context else accepted_message(plan.agent, context_or_input)
    context = _ending_with_the_user(plan, build_context(model, [item]))
    return Action(plan.agent, machine.single(plan, context, *_system(plan, context)), options, None, model)


def _result(_: Action[None], outcome: Outcome) -> Result[Any]:
    if outcome.result is None:
        raise AssertionError("a call that ends without an error has a result")
    return outcome.result


@blocking(_prepare, _result)
def call(
    model: type[Any],
    context_or_input: Any,
    *,
    instruction_args: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> Result[Any]:
    """Ask the model once, without a session.

    Nothing is stored. A system message of the context is used as it is; otherwise the instruction is
    rendered from `instruction_args`. The result's `context` is the whole conversation, for `build_context`
    to continue from.

    Args:
        model: The class with `@agent`.
        context_or_input: The user's message: a value of the input schema, a dict with its fields, or a
            text. Or a `Context` that ends with a user's message.
        instruction_args: Values of the instruction's variables.
        client: The model to ask, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`.

    Returns:
        The result.

    Raises:
        InputInvalid: An argument does not fit. The model is not asked.
        TurnFailed: `ProviderFailed`, `OutputInvalid` and others. `.session` is None.

    Example:
        ```python
        from agentsession.actions import call

        result = call(ChatAgent, "What is the capital of France?")
        further = build_context(ChatAgent, [result.context, user_message(ChatAgent, message="And of Italy?")])
        print(call(ChatAgent, further).text)
        ```
    """
    ...


@awaited(_prepare, _result)
async def acall(
    model: type[Any],
    context_or_input: Any,
    *,
    instruction_args: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> Result[Any]:
    """Ask the model once, without a session, on an event loop.

    As `call`. Cancelling the task cancels the model call.

    Args:
        model: The class with `@agent`.
        context_or_input: The user's message: a value of the input schema, a dict with its fields, or a
            text. Or a `Context` that ends with a user's message.
        instruction_args: Values of the instruction's variables.
        client: The model to ask, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`.

    Returns:
        The result.

    Raises:
        AgentSessionError: As `call`.

    Example:
        ```python
        from agentsession.actions import acall

        result = await acall(ChatAgent, "What is the capital of France?")
        print(result.text)
        ```
    """
    ...


@streamed(_prepare)
def stream(
    model: type[Any],
    context_or_input: Any,
    *,
    instruction_args: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> TurnStream[None]:
    """Ask the model once, without a session, as a stream of events.

    As `call`. Leaving the stream early cancels the model call.

    Args:
        model: The class with `@agent`.
        context_or_input: The user's message: a value of the input schema, a dict with its fields, or a
            text. Or a `Context` that ends with a user's message.
        instruction_args: Values of the instruction's variables.
        client: The model to ask, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`.

    Returns:
        A `TurnStream` of the call's events. Its `session` is None.

    Raises:
        AgentSessionError: As `call`.

    Example:
        ```python
        from agentsession.actions import stream

        with stream(ChatAgent, "What is the capital of France?") as events:
            for event in events:
                print(event.name)
        print(events.result.text)
        ```
    """
    ...


@astreamed(_prepare)
def astream(
    model: type[Any],
    context_or_input: Any,
    *,
    instruction_args: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> AsyncTurnStream[None]:
    """Ask the model once, without a session, as a stream of events, on an event loop.

    As `call`. The model is asked when the stream is entered. Leaving the stream early cancels the model
    call.

    Args:
        model: The class with `@agent`.
        context_or_input: The user's message: a value of the input schema, a dict with its fields, or a
            text. Or a `Context` that ends with a user's message.
        instruction_args: Values of the instruction's variables.
        client: The model to ask, such as `"openai:gpt-5"`, or `(id, options)`.
        client_options: Options of the client, such as `{"temperature": 0}`.

    Returns:
        An `AsyncTurnStream` of the call's events. Its `session` is None.

    Raises:
        AgentSessionError: As `call`, when the stream is entered or read.

    Example:
        ```python
        from agentsession.actions import astream

        async with astream(ChatAgent, "What is the capital of France?") as events:
            async for event in events:
                print(event.name)
        print(events.result.text)
        ```
    """
    ...


def warm_up(model: type[Any]) -> None:
    """Make the provider of a model ready now, so that the first turn does not wait for it.

    The import of litellm takes seconds. Call this when a server starts. It asks no model, stores nothing, and
    may be called again. A missing API key is logged as a warning, because `client_options` may have one.

    Args:
        model: The class with `@agent`.

    Raises:
        ProviderFailed: The provider cannot be made ready, or litellm does not know it.

    Example:
        ```python
        warm_up(ChatAgent)
        ```
    """
    agent = info.agent_options(model)
    try:
        Performer(agent, None).prepare(None)
    except ProviderFailed as failed:
        failed.where, failed.why = agent.qualified_name, "the first turn would fail"
        if failed.kind != "auth":
            raise
        _log.warning("%s", failed)


def _ending_with_the_user(plan: Plan, context: Context) -> Context:
    """Return the context, whose last message begins the turn of this call.

    The id of the turn is new, so that tool calls keep distinct keys when contexts are joined. The metadata of
    the message is dropped: the model replies to it although an earlier turn of it failed.
    """
    *before, last = context.messages or (None,)
    if last is None or last.role != "user":
        raise InputInvalid(
            "the context does not end with a user's message",
            where=f"{plan.agent.qualified_name} call",
            why="the model would have nothing to answer",
            fix="end it with user_message(Model, …)",
        )
    opening = Message(f"{plan.turn_id}:{len(before)}", plan.turn_id, "user", last.content)
    return msgspec.structs.replace(context, messages=with_schema((*before, opening), plan.agent.input))


def _system(plan: Plan, context: Context) -> tuple[str, JsonMap | None]:
    """Return the system message, and the arguments that it was rendered from."""
    instructions = [message.text for message in context.messages if message.role == "system"]
    if not instructions:
        args, _ = settle_args(plan, Context())
        return render(plan.agent, args), args
    if plan.instruction_args is not None:
        raise InputInvalid(
            "instruction_args were given with a context that has a system message",
            where=f"{plan.agent.qualified_name} call",
            why="only one of them can be the instruction",
            fix="leave instruction_args out, or the system message",
        )
    return "\n\n".join(instructions), None
