"""Move the sessions of a model from one layout to the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import peewee

from agentsession._options import LAYOUTS, ROWS, Layout
from agentsession._store.declared import Declared, refuse_async
from agentsession._store.migration import Fate, SessionToMove, sessions_to_move
from agentsession.actions.prepare import checked_model
from agentsession.errors import ContextUnreadable, DslError, InputInvalid, Problem, SessionNotFound


@dataclass
class MigrationReport:
    """What a migration did.

    Attributes:
        moved: The number of sessions that were moved; with `dry_run`, that would be moved.
        messages: The number of their messages.
        busy: The ids of sessions whose turn was running. Migrate again to move them.
        failed: The reasons why sessions could not be moved, by their ids.
    """

    moved: int = 0
    messages: int = 0
    busy: list[Any] = field(default_factory=list)
    failed: dict[Any, str] = field(default_factory=dict)

    def add(self, key: Any, fate: Fate, messages: int) -> None:
        """Count one session."""
        if fate == "busy":
            self.busy.append(key)
        elif fate == "moved":
            self.moved += 1
            self.messages += messages

    @property
    def is_complete(self) -> bool:
        """Whether no session was busy and none failed."""
        return not self.busy and not self.failed


def migrate(
    model: type[peewee.Model],
    *,
    to: Layout = ROWS,
    batch: int = 100,
    dry_run: bool = False,
    progress: Callable[[MigrationReport], object] = lambda _: None,
) -> MigrationReport:
    """Move all sessions of a model to the layout `to`.

    The model is declared with `messages="rows"` and has its `@agent_message`, also to move back to documents:
    change the declaration afterwards. Each session is moved in its own transaction, so the migration can be
    stopped at any moment and started again, and turns of other sessions continue beside it. A session whose
    turn is running is skipped. A program that declares the other layout gets `LayoutMismatch` for a session,
    and writes nothing.

    Args:
        model: The class with `@agent_session`.
        to: `"rows"` or `"document"`.
        batch: The number of ids that are read at once.
        dry_run: True writes nothing.
        progress: A function that is called with the report after each session.

    Returns:
        The report.

    Raises:
        DslError: The model has no `@agent_message`.
        InputInvalid: A transaction is open, or an argument does not fit.

    Example:
        ```python
        from agentsession.actions import migrate

        while not migrate(ChatAgent, to="rows").is_complete:
            time.sleep(30)  # a turn was running
        ```
    """
    declared = checked_model(model)
    _refuse(declared, to, batch)
    refuse_async(declared, "migrate")
    moved = MigrationReport()
    for key in sessions_to_move(declared, batch):
        session = SessionToMove(declared, key)
        with suppress(SessionNotFound):
            try:
                fate = session.move(to, dry_run=dry_run)
            except (ContextUnreadable, peewee.IntegrityError, peewee.DataError) as error:
                moved.failed[key] = str(error)
            else:
                moved.add(key, fate, session.count)
        progress(moved)
    return moved


def _refuse(declared: Declared, to: Layout, batch: int) -> None:
    if declared.message_model is None:
        raise DslError(
            (
                Problem(
                    f"[{declared.name}] agent_session -> messages",
                    "the model has no @agent_message",
                    "its messages are moved from, or to, the rows of that model",
                    '@agent_session(messages="rows", …), and @agent_message on a model of its messages, in a '
                    "module that is imported with this one",
                ),
            )
        )
    found = fix = ""
    if to not in LAYOUTS:
        found, fix = f"to is {to!r}", f"to= one of {', '.join(map(repr, LAYOUTS))}"
    elif not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        found, fix = f"batch is {batch!r}", "batch=100"
    elif declared.in_caller_transaction:
        found, fix = (
            "a transaction is open",
            "call migrate outside `atomic()`: each session is moved in its own",
        )
    if found:
        raise InputInvalid(found, where=f"{declared.name} migrate", why="nothing was moved", fix=fix)
