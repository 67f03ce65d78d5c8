"""A turn, by the number of messages that are stored before it, beside the floor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

from tests.benchmarks import targets
from tests.benchmarks.counting import cost
from tests.benchmarks.figures import Figure, Section, column, milliseconds, pair, size, times
from tests.benchmarks.floor import open_floor
from tests.benchmarks.floor.connected import Floor
from tests.benchmarks.meters import meter_at
from tests.benchmarks.ours import Ours, open_ours
from tests.benchmarks.places import another_connection
from tests.benchmarks.plan import Plan
from tests.benchmarks.sessions import turns_after
from tests.benchmarks.timing import Effort, alternate, beside

UNCONNECTED = 100

HEAD = """\
One turn whose model takes no time; ours / floor in each cell, measured in turns.
After 0 messages: the first turn of a session. Connection none: the thread has none, another thread has one.
Statements: without BEGIN and COMMIT.
kB written, the mean of some turns: by which SQLite's -wal file grew; on PostgreSQL the WAL of the turn's
transactions, without the images of whole pages that follow a checkpoint.
fsyncs of the commits: SQLite's by its rule, none with synchronous=NORMAL but at checkpoints, one a commit
with FULL; PostgreSQL's from pg_stat_wal, the median."""
COLUMNS = [
    column("place", "place"),
    column("layout", "layout"),
    column("after", "after"),
    column("connection", "connection"),
    pair("p50 ms", "p50_ms", milliseconds),
    pair("p95 ms", "p95_ms", milliseconds),
    column("ratio", "ratio", form=times),
    ("target", targets.at_most("ratio")),
    pair("statements", "statements"),
    pair("commits", "commits"),
    pair("fsyncs", "syncs"),
    pair("kB written", "written", size),
]


def turns(plan: Plan) -> Section:
    section = Section("turns", "Time and cost of a turn", HEAD, COLUMNS)
    for place, layout in plan.cases(section):
        with place.database() as ours, place.database() as floor:
            both = Both(open_ours(ours, layout), open_floor(floor, layout), (ours, floor), plan.effort)
            for figure in both.figures(plan.lengths):
                target = targets.of_turn(place.key, layout, figure)
                section.figures.append({"place": place.key, "layout": layout, "target": target, **figure})
    return section


@dataclass(frozen=True)
class Both:
    """The two sides in one place, each with a database of its own."""

    ours: Ours
    floor: Floor
    urls: tuple[str, str]
    effort: Effort

    def figures(self, lengths: Sequence[int]) -> Iterator[Figure]:
        with another_connection(self.urls[0]), another_connection(self.urls[1]):
            yield {"after": UNCONNECTED, "connection": "none", **self.timed(UNCONNECTED)}
        self.ours.connect()
        self.floor.connect()
        for after in lengths:
            figure = self.timed(after)
            figure["ours"] |= self.counted(self.ours, self.urls[0], after)
            figure["floor"] |= self.counted(self.floor, self.urls[1], after)
            yield {"after": after, "connection": "open", **figure}
        self.ours.disconnect()
        self.floor.disconnect()

    def counted(self, side: Ours | Floor, url: str, after: int) -> Figure:
        with closing(meter_at(url)) as meter:
            return asdict(cost(side, side.connection, meter, after, self.effort.counted))

    def timed(self, after: int) -> Figure:
        turns = [turns_after(side, after, self.effort.at_most) for side in (self.ours, self.floor)]
        return beside(*alternate(turns, self.effort))
