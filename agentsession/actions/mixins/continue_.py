"""The methods that continue a session."""

# The methods below are declarations: their decorator calls the action.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from agentsession.actions import continue_
from agentsession.actions.mixins.method_types import (
    In,
    Typed,
    two_forms,
    two_forms_astreamed,
    two_forms_awaited,
    two_forms_streamed,
)
from agentsession.actions.prepare import ClientChoice, Options
from agentsession.actions.streams import AsyncTurnStream, TurnStream


class ContinueMethods(Typed[In]):
    """`continue_session` and its twins."""

    @two_forms(continue_.continue_session)
    def continue_session(
        self,
        input: In | str | Mapping[str, Any],
        *,
        instruction_args: Any = None,
        actor: Any = None,
        idempotency_key: str | None = None,
        client: ClientChoice = None,
        client_options: Options = None,
        run: bool = True,
    ) -> Self:
        """Store the user's next message, ask the model with the conversation, and store its reply.

        The message is committed before the model is asked. `run=False` stores it as `pending` and returns;
        `resume_session` runs the turn later, in any process. If the process of an earlier turn died and its
        lease has run out, that turn is stored as `interrupted`: its message stays in the transcript and is
        not shown to the model.

        An `idempotency_key` belongs to its session. A call that repeats one returns the stored result of
        that turn, or raises the error with which it ended, also after later turns.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
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
            session.continue_session("And what does it cost?")
            ChatAgent.continue_session(session.id, {"message": "And in euros?"})
            ```
        """
        ...

    @two_forms_awaited(continue_.acontinue_session)
    async def acontinue_session(
        self,
        input: In | str | Mapping[str, Any],
        *,
        instruction_args: Any = None,
        actor: Any = None,
        idempotency_key: str | None = None,
        client: ClientChoice = None,
        client_options: Options = None,
        run: bool = True,
    ) -> Self:
        """Run the next turn of a session on an event loop.

        As `continue_session`. Cancelling the task ends the turn as `interrupted`, with the partial reply.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
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
            await session.acontinue_session("And what does it cost?")
            await ChatAgent.acontinue_session(session.id, "And in euros?")
            ```
        """
        ...

    @two_forms_streamed(continue_.stream_continue_session)
    def stream_continue_session(
        self,
        input: In | str | Mapping[str, Any],
        *,
        instruction_args: Any = None,
        actor: Any = None,
        idempotency_key: str | None = None,
        client: ClientChoice = None,
        client_options: Options = None,
        run: bool = True,
    ) -> TurnStream[Self]:
        """Run the next turn of a session as a stream of events.

        As `continue_session`. The message is stored when the function returns. Leaving the stream early
        ends the turn as `interrupted`, with the partial reply.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
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
            with session.stream_continue_session("Tell me more") as stream:
                for event in stream:
                    if isinstance(event, TextDelta):
                        print(event.text, end="", flush=True)
            print(stream.result.usage.total_tokens)
            ```
        """
        ...

    @two_forms_astreamed(continue_.astream_continue_session)
    def astream_continue_session(
        self,
        input: In | str | Mapping[str, Any],
        *,
        instruction_args: Any = None,
        actor: Any = None,
        idempotency_key: str | None = None,
        client: ClientChoice = None,
        client_options: Options = None,
        run: bool = True,
    ) -> AsyncTurnStream[Self]:
        """Run the next turn of a session as a stream of events, on an event loop.

        As `continue_session`. The turn begins, and the message is stored, when the stream is entered.
        Leaving it early ends the turn as `interrupted`, with the partial reply.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
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
            async with session.astream_continue_session("Tell me more") as stream:
                async for event in stream:
                    if isinstance(event, TextDelta):
                        print(event.text, end="", flush=True)
            print(stream.result.usage.total_tokens)
            ```
        """
        ...
