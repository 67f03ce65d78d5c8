"""What does the package cost at import, beside its dependencies? `python -m tests.benchmarks.import_time`.

Each row is the median of fresh processes, measured inside the process from its first line to its last.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks import targets
from tests.benchmarks.figures import Figure, Section, column, milliseconds, times
from tests.benchmarks.plan import Plan
from tests.benchmarks.table import lines
from tests.benchmarks.timing import FULL

ROUNDS, QUICK_ROUNDS = 11, 3

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

HEAD = (
    "Milliseconds in fresh processes, in turns. Beyond: the median difference of two that follow each other."
)
COLUMNS = [
    column("", "case"),
    column("p50 ms", "p50_ms", form=milliseconds),
    column("ratio", "ratio", form=times),
    ("target", targets.at_most("p50_ms")),
]


def imports(plan: Plan) -> Section:
    return Section(
        "imports", "Import", HEAD, COLUMNS, list(figures(ROUNDS if plan.effort is FULL else QUICK_ROUNDS))
    )


def figures(rounds: int) -> Iterator[Figure]:
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, code in CASES.items():
            taken[name].append(seconds(code))
    floor = statistics.median(taken[FLOOR])
    for name, found in taken.items():
        median = statistics.median(found)
        yield {"case": name, "p50_ms": median * 1000, "ratio": median / floor, "target": None}
    beyond = [ours - theirs for ours, theirs in zip(taken[OURS], taken[DEPENDENCIES], strict=True)]
    yield {"case": BEYOND, "p50_ms": statistics.median(beyond) * 1000, "target": targets.IMPORT_MS}


def seconds(code: str) -> float:
    timed = f"import time; began = time.perf_counter()\n{code}\nprint(time.perf_counter() - began)"
    return float(subprocess.run([sys.executable, "-c", timed], capture_output=True, check=True).stdout)


def main() -> None:
    section = Section("imports", "Import", HEAD, COLUMNS, list(figures(ROUNDS)))
    print("\n".join(lines(section)))


if __name__ == "__main__":
    main()
