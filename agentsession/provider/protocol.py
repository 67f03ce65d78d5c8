"""The provider protocol: what a model is asked, and with what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from agentsession.options import Client, OutputMode
from agentsession.schema import OutputSchema
from agentsession.turn.effects import Reply, View


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    `view` is the conversation as the model is shown it: the system message first if there is one, then
    user and assistant in turns, the user last. `timeout` is in seconds, for the call with its retries.
    `output` says what the reply has to look like, and `output_mode` how the model is asked for it.
    """

    view: View
    client: Client
    output: OutputSchema
    output_mode: OutputMode = "auto"
    timeout: float = 120.0
    retries: int = 2


@runtime_checkable
class Provider(Protocol):
    """Answers a request. Called from any thread; holds no database connection."""

    def ask(self, request: Request) -> Reply:
        """The reply; an exception fails the turn."""
        ...
