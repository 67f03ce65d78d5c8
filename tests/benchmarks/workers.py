"""Worker processes that hold a conversation each, in one database: turns per second, beside the floor."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.synchronize import Barrier
from typing import Any, TypeAlias

from tests.benchmarks import targets
from tests.benchmarks.figures import Figure, Section, column, pair, times
from tests.benchmarks.floor import open_floor
from tests.benchmarks.ours import open_ours
from tests.benchmarks.plan import Plan
from tests.benchmarks.timing import FULL, Side

WORKERS = 8
LENGTH = 100
ROUNDS = 3
TURNS, QUICK_TURNS = 20, 6
OPEN: dict[str, Callable[..., Side]] = {"ours": open_ours, "floor": open_floor}

Task: TypeAlias = tuple[str, str, str, Any, int]
"""The side, its URL and layout, the session's key, and how many turns."""

HEAD = (
    f"{WORKERS} processes on {WORKERS} sessions of {LENGTH} messages, each with a connection open: turns per "
    "second of all\ntogether; ours / floor, the median of rounds that alternate."
)
COLUMNS = [
    column("place", "place"),
    column("layout", "layout"),
    pair("turns per second", "per_second", lambda value: f"{value:.0f}"),
    column("ratio", "ratio", form=times),
    ("target", targets.at_least("ratio")),
]
PLACES = ("memory", "postgres")

start: Barrier
"""In a worker: where all wait for each other."""


def workers(plan: Plan) -> Section:
    section = Section("workers", f"{WORKERS} workers", HEAD, COLUMNS)
    turns = TURNS if plan.effort is FULL else QUICK_TURNS
    with crowd() as pool:
        for place, layout in plan.limited_to(PLACES).cases(section):
            with place.database() as ours, place.database() as floor:
                figure = _figure(pool, {"ours": ours, "floor": floor}, layout, turns)
            section.figures.append({"place": place.key, "layout": layout, **figure})
    return section


def _figure(pool: Any, urls: dict[str, str], layout: str, turns: int) -> Figure:
    tasks = {}
    for name, url in urls.items():
        side = OPEN[name](url, layout)
        tasks[name] = [(name, url, layout, side.seeded(LENGTH), turns) for _ in range(WORKERS)]
    speeds: dict[str, list[float]] = {name: [] for name in urls}
    for _ in range(ROUNDS):
        for name in urls:
            spans = pool.map(work, tasks[name], chunksize=1)
            seconds = max(end for _, end in spans) - min(began for began, _ in spans)
            speeds[name].append(WORKERS * turns / seconds)
    figure: Figure = {name: {"per_second": statistics.median(found)} for name, found in speeds.items()}
    figure["ratio"] = figure["ours"]["per_second"] / figure["floor"]["per_second"]
    return figure | {"target": targets.WORKERS}


@contextmanager
def crowd() -> Iterator[Any]:
    """Processes of which each takes one task of a round, since none begins before all have one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.benchmarks.__main__"])
    with context.Pool(WORKERS, _remember, (context.Barrier(WORKERS),)) as pool:
        yield pool
        pool.close()
        pool.join()


def _remember(barrier: Barrier) -> None:
    global start
    start = barrier


@cache
def opened(name: str, url: str, layout: str, seed: int) -> Side:
    return OPEN[name](url, layout, seed)


def work(task: Task) -> tuple[float, float]:
    """When the first turn began and the last one ended, on the clock that all processes share."""
    name, url, layout, key, turns = task
    side = opened(name, url, layout, multiprocessing.current_process()._identity[0])
    side.connect()
    start.wait(60)
    began = time.monotonic()
    for _ in range(turns):
        side.turn(key)
    end = time.monotonic()
    side.disconnect()
    return began, end
