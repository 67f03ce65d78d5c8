"""What a turn costs the database: statements, commits, waits for the disk, bytes. No times.

`bytes_per_turn(Chat, after=1000)` and `statements_per_turn(Chat, after=1000)` take any session model whose
provider answers by itself, on SQLite in WAL mode in a file, or on PostgreSQL.
"""

from __future__ import annotations

import statistics
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import statements
from tests.benchmarks.meters import Meter, meter_of
from tests.benchmarks.ours import Ours
from tests.benchmarks.sessions import turns_after
from tests.benchmarks.texts import Texts
from tests.benchmarks.timing import Side

TURNS = 10


@dataclass(frozen=True)
class Cost:
    """Of one turn. `statements` are those between the beginnings and ends of transactions."""

    statements: int
    commits: int
    syncs: int | None
    written: int


def bytes_per_turn(model: Any, *, after: int, turns: int = TURNS) -> int:
    return _cost_of(model, after, turns).written


def statements_per_turn(model: Any, *, after: int) -> int:
    return _cost_of(model, after, 1).statements


def _cost_of(model: Any, after: int, turns: int) -> Cost:
    side = Ours(model, Texts(after))
    with side.connected(), closing(meter_of(side.database)) as meter:
        return cost(side, side.connection, meter, after, turns)


def cost(side: Side, connection: Any, meter: Meter, after: int, turns: int = TURNS) -> Cost:
    """The bytes are the mean of some turns, the waits their median."""
    turn = turns_after(side, after, turns + 2)
    turn()
    meter.settle()
    executed = statements.verbs(connection, turn)
    commits = statements.commits(executed)
    synced, mark = [], meter.mark()
    for _ in range(turns):
        before = meter.syncs(connection, 0)
        turn()
        synced.append(_less(meter.syncs(connection, commits), before))
    written = round(meter.written_since(mark) / turns)
    return Cost(statements.statements(executed), commits, _median(synced), written)


def _less(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before


def _median(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return statistics.median_low(known) if known else None
