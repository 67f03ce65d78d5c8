"""Refusing a session whose turn is open, or waiting for it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from agentsession._turn.effects import Effect, Load, Loaded, Wait
from agentsession._turn_state import AWAITING, Turn
from agentsession.errors import SessionBusy

DECIDED = "the approvals of the latest turn are decided, and it waits to be run"


class BusyWait:
    """The seconds that one action may spend waiting for a busy session.

    It polls, at intervals in proportion to the age of the open turn: no connection is held, a crash leaves
    nothing to clean up, and every waiting process has the same chance.
    """

    def __init__(self, seconds: float) -> None:
        self.remaining = seconds
        self.spent = 0.0

    def wait(self, turn: Turn, now: float) -> Generator[Effect, Any, Loaded]:
        """Wait for a moment and read the session again; raises `SessionBusy` once the time is used up."""
        if self.remaining <= 0:
            raise busy(turn, now, self.spent)
        age = self.spent if turn.since is None else now - turn.since
        waited: float = yield Wait(age, self.remaining)
        self.remaining -= waited
        self.spent += waited
        loaded: Loaded = yield Load()
        return loaded


def busy(turn: Turn, now: float, waited: float) -> SessionBusy:
    """Return the error for an open turn: its status, and its times if it is running."""
    if turn.status == "running":
        age, remaining = now - (turn.since or now), (turn.until or now) - now
        found = f"a turn has been running for {age:.1f} s, its lease ends in {remaining:.1f} s"
        fix = "try again when it has ended, or once its lease has run out"
    elif turn.status == AWAITING:
        waits = [f"{each.tool} ({each.call})" for each in turn.approvals if each.status == "pending"]
        found = f"the latest turn waits for the approval of {', '.join(waits)}" if waits else DECIDED
        first = "approve or reject each of `session.approvals`, then " if waits else ""
        fix = f"{first}call resume_session"
    else:
        found = f"the latest turn is {turn.status}: it is stored and waits to be run"
        fix = "call resume_session to run it, then continue"
    if waited:
        found += f" (waited for {waited:.1f} s)"
    error = SessionBusy(found, why="a session runs one turn at a time; nothing was stored", fix=fix)
    error.status, error.since, error.until = turn.status, turn.since, turn.until
    return error
