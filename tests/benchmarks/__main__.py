"""What does a turn cost, beside code written by hand? `python -m tests.benchmarks --quick`.

Every figure of ours stands beside the floor's, from the same run. The table goes to standard output, all
figures go to a JSON file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.benchmarks import table
from tests.benchmarks.beside_peers import peers
from tests.benchmarks.figures import Section
from tests.benchmarks.growth import growth
from tests.benchmarks.import_time import imports
from tests.benchmarks.layouts import LAYOUTS
from tests.benchmarks.machine import described, machine
from tests.benchmarks.places import PLACES
from tests.benchmarks.plan import LENGTHS, QUICK_LENGTHS, Plan
from tests.benchmarks.reading import reading
from tests.benchmarks.timing import FULL, QUICK
from tests.benchmarks.turns import turns
from tests.benchmarks.workers import workers

SECTIONS: dict[str, Callable[[Plan], Section]] = {
    "turns": turns,
    "growth": growth,
    "reading": reading,
    "workers": workers,
    "imports": imports,
    "peers": peers,
}
JSON = Path(__file__).with_name("latest.json")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    places = [place.key for place in PLACES]
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no session of 5000 messages")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--places", nargs="+", choices=places, default=places)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--markdown", action="store_true", help="tables to paste into a README")
    parser.add_argument("--json", type=Path, default=JSON, metavar="PATH", help="default: %(default)s")
    return parser.parse_args(given)


def plan_of(options: argparse.Namespace) -> Plan:
    return Plan(
        places=[place for place in PLACES if place.key in options.places],
        layouts=options.layouts,
        lengths=QUICK_LENGTHS if options.quick else LENGTHS,
        effort=QUICK if options.quick else FULL,
    )


def measured(options: argparse.Namespace) -> Iterator[Section]:
    """Each section is printed as soon as it is there."""
    plan = plan_of(options)
    for name in options.only:
        began = time.perf_counter()
        section = SECTIONS[name](plan)
        section.seconds = time.perf_counter() - began
        print("\n".join(table.lines(section, markdown=options.markdown)), flush=True)
        yield section


def main(given: Sequence[str] | None = None) -> None:
    options, began, facts = arguments(given), time.perf_counter(), machine()
    print(f"{described(facts)}\n", flush=True)
    sections = {section.name: section.json() for section in measured(options)}
    facts["seconds"] = round(time.perf_counter() - began, 1)
    options.json.write_text(json.dumps({"machine": facts, "sections": sections}, indent=1) + "\n")
    print(f"{facts['seconds']} s; all figures are in {options.json}")


if __name__ == "__main__":
    main()
