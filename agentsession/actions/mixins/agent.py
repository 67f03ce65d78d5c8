"""The mixin of any class with `@agent`."""

# The methods below are declarations: their decorator calls the action.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentsession.actions import one_call
from agentsession.actions.mixins.method_types import In, Out, Typed, on_class
from agentsession.actions.prepare import ClientChoice, Options
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.context import Context, Result


class AgentActions(Typed[In, Out]):
    """The methods that ask a model without a session, for any class with `@agent`.

    `AgentActions[Ask, Answer]` types the input and the output, and declares both as the schemas unless
    `@agent` does. The decorator adds this mixin to a class that lacks it; type checkers cannot see that.

    Example:
        ```python
        @agent(client="echo:", instruction="You are terse.")
        class Terse(AgentActions[str, str]): ...


        print(Terse.call("Hello").output)
        ```
    """

    @classmethod
    @on_class(one_call.call)
    def call(
        cls,
        context_or_input: In | str | Mapping[str, Any] | Context,
        *,
        instruction_args: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> Result[Out]:
        """Ask the model once, without a session.

        Nothing is stored. A system message of the context is used as it is; otherwise the instruction
        is rendered from `instruction_args`. The result's `context` is the whole conversation, for
        `build_context` to continue from.

        Args:
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
            result = ChatAgent.call("What is the capital of France?")
            print(result.text, result.usage.total_tokens)
            ```
        """
        ...

    @classmethod
    @on_class(one_call.acall)
    async def acall(
        cls,
        context_or_input: In | str | Mapping[str, Any] | Context,
        *,
        instruction_args: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> Result[Out]:
        """Ask the model once, without a session, on an event loop.

        As `call`. Cancelling the task cancels the model call.

        Args:
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
            result = await ChatAgent.acall("What is the capital of France?")
            print(result.text, result.usage.total_tokens)
            ```
        """
        ...

    @classmethod
    @on_class(one_call.stream)
    def stream(
        cls,
        context_or_input: In | str | Mapping[str, Any] | Context,
        *,
        instruction_args: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> TurnStream[None]:
        """Ask the model once, without a session, as a stream of events.

        As `call`. Leaving the stream early cancels the model call.

        Args:
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
            with ChatAgent.stream("What is the capital of France?") as stream:
                for event in stream:
                    print(event.name)
            print(stream.result.text)
            ```
        """
        ...

    @classmethod
    @on_class(one_call.astream)
    def astream(
        cls,
        context_or_input: In | str | Mapping[str, Any] | Context,
        *,
        instruction_args: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> AsyncTurnStream[None]:
        """Ask the model once, without a session, as a stream of events, on an event loop.

        As `call`. The model is asked when the stream is entered. Leaving the stream early cancels the model
        call.

        Args:
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
            async with ChatAgent.astream("What is the capital of France?") as stream:
                async for event in stream:
                    print(event.name)
            print(stream.result.text)
            ```
        """
        ...


class GivenActions(AgentActions[Any, Any]):
    """The base that `@agent` adds to a class without the mixin; `@agent_session` replaces it by its own."""
