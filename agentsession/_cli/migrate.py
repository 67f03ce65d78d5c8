"""`python -m agentsession migrate module:Model`: move its sessions from one layout to the other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import peewee

from agentsession import actions
from agentsession.actions import MigrationReport
from agentsession.errors import AgentSessionError

SHOWN = 10
"""Ids of a kind that are shown."""


def migrate_sessions(place: str, to: Any, batch: int, *, dry_run: bool) -> int:
    """Returns the exit code: 0 if all of them are there now, 1 if some are not, 2 if nothing was tried."""
    try:
        model = model_at(place)
        moved = _moved(
            model, partial(actions.migrate, to=to, batch=batch, dry_run=dry_run, progress=Progress())
        )
    except (AgentSessionError, LookupError, ImportError, peewee.PeeweeException) as error:
        print(f"{place}: {error}", file=sys.stderr)
        return 2
    print(f"{'would move' if dry_run else 'moved'} {_counted(moved)} to {to}")
    for key, reason in list(moved.failed.items())[:SHOWN]:
        print(f"{key} could not be moved: {reason}", file=sys.stderr)
    if moved.busy:
        ids = ", ".join(map(str, moved.busy[:SHOWN]))
        print(f"{len(moved.busy)} were left, since a turn is running ({ids}): run it again", file=sys.stderr)
    return 0 if moved.is_complete else 1


def model_at(place: str) -> Any:
    """The model that is written as `package.module:Model`; raises `LookupError` that says what is wrong."""
    module_name, _, name = place.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), name)):
        raise LookupError("write it as package.module:Model")
    sys.path.insert(0, str(Path.cwd()))
    module = import_module(module_name)
    model = getattr(module, name, None)
    if not isinstance(model, type) or not issubclass(model, peewee.Model):
        raise LookupError(f"the module {module_name} has no Peewee model {name!r}")  # noqa: TRY004
    return model


def _moved(model: Any, move: Callable[[Any], MigrationReport]) -> MigrationReport:
    if not actions.has_async_database(model):
        return move(model)

    async def on_a_loop() -> MigrationReport:
        database: Any = model._meta.database
        try:
            moved: MigrationReport = await database.run(move, model)
            return moved
        finally:
            await database.close_pool()

    return asyncio.run(on_a_loop())


class Progress:
    """Tells of every thousand sessions that were moved."""

    reported = 0

    def __call__(self, moved: MigrationReport) -> None:
        if moved.moved >= self.reported + 1000:
            self.reported = moved.moved
            print(f"… {_counted(moved)}", file=sys.stderr)


def _counted(moved: MigrationReport) -> str:
    return f"{moved.moved:,} sessions with {moved.messages:,} messages"
