"""An editor shows the docstring and the arguments of each public method and function: pyright's hover."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.language_server import LanguageServer

ROOT = Path(__file__).parents[2]

SOURCE = """
import peewee
from agentsession import AsyncTurnStream, Context, Result, SessionActions, Turn, TurnStream, actions, agent
from agentsession import agent_session
from agentsession.actions import Approval

@agent_session
@agent(client="echo:", instruction="You help.")
class Chat(SessionActions[str, str], peewee.Model):
    context = peewee.JSONField(null=True)

def editor(
    session: Chat,
    stream: TurnStream[Chat],
    astream: AsyncTurnStream[Chat],
    approval: Approval,
    result: Result[str],
    context: Context,
    turn: Turn,
) -> None:
"""

SHOWN = {
    "Chat.call": ("Ask the model once", "context_or_input", "client_options: "),
    "Chat.acall": ("on an event loop", "context_or_input", "client_options: "),
    "Chat.astream": ("as a stream of events, on an event loop", "AsyncTurnStream[None]"),
    "Chat.start_session": ("Store a new session", "idempotency_key: str | None", "attributes: Values"),
    "session.continue_session": ("Store the user's next message", "run: bool", "idempotency_key: A text"),
    "Chat.continue_session": ("Store the user's next message", "run: bool", "as its first argument"),
    "session.acontinue_session": ("on an event loop", "run: bool", "Coroutine[Any, Any, Chat]"),
    "Chat.astream_start_session": ("as a stream of events, on an event loop", "AsyncTurnStream[Chat]"),
    "session.stream_resume_session": ("as a stream of events", "actor: The owner", "TurnStream[Chat]"),
    "session.cancel_session": ("Cancel the open turn", "actor: The owner", "-> Chat"),
    "session.get_context": ("Return the conversation", "before: A position", "-> Context"),
    "session.last_result": ("The result of the action that returned", "Result[str]"),
    "session.last_turn": ("The turn of the action that returned", "Turn"),
    "session.approvals": ("The tool calls that wait", "list[Approval]"),
    "session.save": ("Store the record's own columns", "force_insert: True"),
    "actions.continue_session": ("Store the user's next message", "session: The id", "run: bool"),
    "actions.astream_start_session": ("as a stream of events, on an event loop", "model: The class"),
    "actions.aget_context": ("on an event loop", "last: The number"),
    "actions.alist_sessions": ("on an event loop", "limit: The number"),
    "stream.sse": ("server-sent events", "ping: Seconds"),
    "astream.aclose": ("End the turn now",),
    "approval.areject": ("on an event loop", "reason: A text"),
    "result.output": ("The value of the output schema",),
    "context.position": ("Return the index", "id_: "),
    "turn.as_of": ("Return the turn as it is at a time", "now: Seconds"),
}
"""What a hover has to show, by the expression under the mouse."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageServer]:
    """A server that has the source open, with one expression a line below it."""
    folder = tmp_path_factory.mktemp("editor")
    try:
        with LanguageServer(folder, ROOT) as running:
            running.open("chat.py", SOURCE + "".join(f"    {expression}\n" for expression in SHOWN))
            yield running
    except (OSError, EOFError) as error:
        if os.environ.get("CI") or os.environ.get("AGENTSESSION_TEST_SERVERS") == "required":
            pytest.fail(f"pyright's language server did not start: {error!r}")
        pytest.skip(f"pyright's language server cannot start here (it needs node): {error!r}")


@pytest.mark.parametrize("expression", SHOWN)
def test_a_hover_shows_the_docstring_and_the_arguments(server: LanguageServer, expression: str) -> None:
    line = SOURCE.count("\n") + list(SHOWN).index(expression)
    shown = server.hover("chat.py", line, 4 + expression.index(".") + 1)
    shown = shown.replace("\\_", "_")  # it is Markdown
    missing = [text for text in SHOWN[expression] if text not in shown]
    assert not missing, shown
