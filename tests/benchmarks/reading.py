"""Reading a conversation back as typed values, beside the floor."""

from __future__ import annotations

from functools import partial

from tests.benchmarks import targets
from tests.benchmarks.figures import Section, column, milliseconds, pair, times
from tests.benchmarks.floor import open_floor
from tests.benchmarks.ours import open_ours
from tests.benchmarks.plan import Plan
from tests.benchmarks.timing import Side, alternate, beside

LENGTH = 1000

HEAD = f"get_context of a session with {LENGTH} messages; ours / floor in each cell, measured in turns."
COLUMNS = [
    column("place", "place"),
    column("layout", "layout"),
    pair("p50 ms", "p50_ms", milliseconds),
    pair("p95 ms", "p95_ms", milliseconds),
    column("ratio", "ratio", form=times),
    ("target", targets.at_most("ratio")),
]


def reading(plan: Plan) -> Section:
    section = Section("reading", f"Reading {LENGTH} messages", HEAD, COLUMNS)
    for place, layout in plan.cases(section):
        with place.database() as ours, place.database() as floor:
            sides: tuple[Side, Side] = (open_ours(ours, layout), open_floor(floor, layout))
            for side in sides:
                side.connect()
            keys = [side.seeded(LENGTH) for side in sides]
            reads = [partial(side.read, key) for side, key in zip(sides, keys, strict=True)]
            if any(len(read()) != LENGTH for read in reads):
                raise RuntimeError(f"a session of {LENGTH} messages is read as one of another length")
            figure = beside(*alternate(reads, plan.effort))
            for side in sides:
                side.disconnect()
        section.figures.append({"place": place.key, "layout": layout, "target": targets.READING, **figure})
    return section
