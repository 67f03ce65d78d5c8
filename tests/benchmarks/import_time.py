"""What does the package cost at import, beside its dependencies? `python -m tests.benchmarks.import_time`.

Each row is the median of fresh processes, measured inside the process from its first line to its last.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 11

FLOOR = "import peewee, pydantic; pydantic.BaseModel"
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
CASES = {
    "import peewee and pydantic (floor)": FLOOR,
    "import every dependency but litellm": "import chevron, msgspec, peewee, pydantic; pydantic.BaseModel",
    "import agentsession": "import agentsession",
    "import agentsession, decorate a model": DECORATED,
}


def seconds(code: str) -> float:
    timed = f"import time; began = time.perf_counter()\n{code}\nprint(time.perf_counter() - began)"
    return float(subprocess.run([sys.executable, "-c", timed], capture_output=True, check=True).stdout)


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, code in CASES.items():
            times[name].append(seconds(code))
    floor = statistics.median(times["import peewee and pydantic (floor)"])
    print(f"{'':42}{'median':>10}{'ratio':>8}")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:42}{median * 1000:7.0f} ms{median / floor:7.2f}x")


if __name__ == "__main__":
    main()
