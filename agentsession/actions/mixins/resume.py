"""The methods that resume a session."""

# The methods below are declarations: their decorator calls the action.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import Any, Self

from agentsession.actions import resume
from agentsession.actions.mixins.method_types import (
    two_forms,
    two_forms_astreamed,
    two_forms_awaited,
    two_forms_streamed,
)
from agentsession.actions.prepare import ClientChoice, Options
from agentsession.actions.streams import AsyncTurnStream, TurnStream


class ResumeMethods:
    """`resume_session` and its twins."""

    @two_forms(resume.resume_session)
    def resume_session(
        self,
        *,
        instruction_args: Any = None,
        actor: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> Self:
        """Run the latest turn again, with its stored message.

        The turn may be pending, failed, interrupted, waiting for approvals that are decided, or abandoned
        by a process that died. It keeps its id, its message and the client that was chosen for it, unless
        `client` chooses another.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
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
            session = ChatAgent.start_session("Hello!", run=False)  # a web process stores
            ChatAgent.resume_session(session.id)  # a worker replies
            ```
        """
        ...

    @two_forms_awaited(resume.aresume_session)
    async def aresume_session(
        self,
        *,
        instruction_args: Any = None,
        actor: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> Self:
        """Run the latest turn of a session again on an event loop.

        As `resume_session`. Cancelling the task ends the turn as `interrupted`, with the partial reply.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
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
            session = ChatAgent.start_session("Hello!", run=False)
            await ChatAgent.aresume_session(session.id)
            ```
        """
        ...

    @two_forms_streamed(resume.stream_resume_session)
    def stream_resume_session(
        self,
        *,
        instruction_args: Any = None,
        actor: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> TurnStream[Self]:
        """Run the latest turn of a session again as a stream of events.

        As `resume_session`. The turn has begun when the function returns. Leaving the stream early ends it as
        `interrupted`, with the partial reply.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
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
            session = ChatAgent.start_session("Hello!", run=False)
            with ChatAgent.stream_resume_session(session.id) as stream:
                for event in stream:
                    if isinstance(event, TextDelta):
                        print(event.text, end="", flush=True)
            print(stream.result.usage.total_tokens)
            ```
        """
        ...

    @two_forms_astreamed(resume.astream_resume_session)
    def astream_resume_session(
        self,
        *,
        instruction_args: Any = None,
        actor: Any = None,
        client: ClientChoice = None,
        client_options: Options = None,
    ) -> AsyncTurnStream[Self]:
        """Run the latest turn of a session again as a stream of events, on an event loop.

        As `resume_session`. The turn begins when the stream is entered. Leaving it early ends the turn as
        `interrupted`, with the partial reply.

        Called on the class, the method takes the id of a session, or its record, as its first argument
        `session`.

        Args:
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
            session = ChatAgent.start_session("Hello!", run=False)
            async with session.astream_resume_session() as stream:
                async for event in stream:
                    if isinstance(event, TextDelta):
                        print(event.text, end="", flush=True)
            print(stream.result.usage.total_tokens)
            ```
        """
        ...
