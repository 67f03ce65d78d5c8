"""How the bytes that a turn writes grow with the conversation.

The long sessions are stored first, so that both are measured in tables of about the same size.
"""

from __future__ import annotations

from tests.benchmarks import targets
from tests.benchmarks.counting import bytes_per_turn
from tests.benchmarks.figures import Section, column, size, times
from tests.benchmarks.ours import open_ours
from tests.benchmarks.plan import Plan

SHORT, LONG = 10, 1000

HEAD = f"kB written by one turn of ours, counted as above, after {SHORT} and after {LONG} messages."
COLUMNS = [
    column("place", "place"),
    column("layout", "layout"),
    column(f"after {SHORT}", "short", form=size),
    column(f"after {LONG}", "long", form=size),
    column("ratio", "ratio", form=times),
    ("target", targets.at_most("ratio")),
]


def growth(plan: Plan) -> Section:
    section = Section("growth", "Growth of what a turn writes", HEAD, COLUMNS)
    for place, layout in plan.cases(section):
        with place.database() as url:
            model, turns = open_ours(url, layout).model, plan.effort.counted
            long, short = (bytes_per_turn(model, after=after, turns=turns) for after in (LONG, SHORT))
        target = targets.ROWS_GROWTH if layout == "rows" else None
        figure = {"short": short, "long": long, "ratio": long / short, "target": target}
        section.figures.append({"place": place.key, "layout": layout, **figure})
    return section
