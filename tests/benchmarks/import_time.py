"""What does the package cost at import, beside its dependencies? `python -m tests.benchmarks.import_time`.

Each row is the median of fresh processes, measured inside the process from its first line to its last.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import TypeAlias

from tests.benchmarks import targets
from tests.benchmarks.figures import Figure, Section, column, milliseconds, times
from tests.benchmarks.plan import Plan
from tests.benchmarks.table import lines
from tests.benchmarks.timing import FULL

ROUNDS, QUICK_ROUNDS = 7, 3

DECORATED = """
import peewee
from pydantic import BaseModel
from agentsession import SessionActions, agent, agent_session
class About(BaseModel):
    company_name: str
class Ask(BaseModel):
    message: str
class Answer(BaseModel):
    content: str
@agent_session(status_attribute="status")
@agent(client="anthropic:claude-sonnet-4-20250514", instruction="For {{ company_name }}.",
       instruction_schema=About, input_schema=Ask, output_schema=Answer)
class ChatAgent(SessionActions[Ask, Answer], peewee.Model):
    context = peewee.JSONField(null=True)
    status = peewee.CharField()
    class Meta:
        database = peewee.SqliteDatabase(":memory:")
"""
TIMED = """
import time
began = time.perf_counter(), time.process_time()
{}
print(time.perf_counter() - began[0], time.process_time() - began[1])
"""
Taken: TypeAlias = tuple[float, float]

FLOOR = "import peewee and pydantic (floor)"
DEPENDENCIES = "import every dependency but litellm"
OURS = "import agentsession"
BEYOND = "import agentsession, beyond its dependencies"
CASES = {
    FLOOR: "import peewee, pydantic; pydantic.BaseModel",
    DEPENDENCIES: "import chevron, msgspec, peewee, pydantic; pydantic.BaseModel",
    OURS: "import agentsession",
    "import agentsession, decorate a model": DECORATED,
}

HEAD = """\
Fresh processes, in turns, by the clock and of the processor, which other work disturbs less.
Beyond: the median difference of two processes that follow each other."""
COLUMNS = [
    column("", "case"),
    column("p50 ms", "p50_ms", form=milliseconds),
    column("cpu ms", "cpu_ms", form=milliseconds),
    column("ratio", "ratio", form=times),
    ("target", targets.at_most("p50_ms")),
]


def imports(plan: Plan) -> Section:
    rounds = ROUNDS if plan.effort is FULL else QUICK_ROUNDS
    return Section("imports", "Import", HEAD, COLUMNS, list(figures(rounds)))


def figures(rounds: int) -> Iterator[Figure]:
    taken: dict[str, list[Taken]] = {name: [] for name in CASES}
    seconds(DECORATED)
    for _ in range(rounds):
        for name, code in CASES.items():
            taken[name].append(seconds(code))
    floor = median(taken[FLOOR])["p50_ms"]
    for name, found in taken.items():
        case = median(found)
        yield {"case": name, **case, "ratio": case["p50_ms"] / floor, "target": None}
    beyond = [
        (ours[0] - theirs[0], ours[1] - theirs[1])
        for ours, theirs in zip(taken[OURS], taken[DEPENDENCIES], strict=True)
    ]
    yield {"case": BEYOND, **median(beyond), "target": targets.IMPORT_MS}


def median(taken: list[Taken]) -> dict[str, float]:
    by_the_clock, busy = zip(*taken, strict=True)
    return {"p50_ms": statistics.median(by_the_clock) * 1000, "cpu_ms": statistics.median(busy) * 1000}


def seconds(code: str) -> Taken:
    """By the clock, and of the processor; of modules that are compiled already."""
    command = [sys.executable, "-c", TIMED.format(code)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    run = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    by_the_clock, busy = run.stdout.split()
    return float(by_the_clock), float(busy)


def main() -> None:
    section = Section("imports", "Import", HEAD, COLUMNS, list(figures(ROUNDS)))
    print("\n".join(lines(section)))


if __name__ == "__main__":
    main()
