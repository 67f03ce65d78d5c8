"""What one run of the benchmarks measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tests.benchmarks.figures import Section
from tests.benchmarks.places import Place
from tests.benchmarks.timing import Effort

LENGTHS = (0, 10, 100, 1000, 5000)
QUICK_LENGTHS = (0, 10, 100, 1000)


@dataclass(frozen=True)
class Plan:
    """`lengths` are the numbers of messages that are stored before a turn."""

    places: Sequence[Place]
    layouts: Sequence[str]
    lengths: Sequence[int]
    effort: Effort

    def limited_to(self, places: Sequence[str]) -> Plan:
        return replace(self, places=[place for place in self.places if place.key in places])

    def cases(self, section: Section) -> Iterator[tuple[Place, str]]:
        """Each place and layout; the section is told what cannot be measured."""
        for place in self.places:
            if place.missing:
                section.skipped.append(f"{place.name}: {place.missing}")
            else:
                yield from ((place, layout) for layout in self.layouts)
