"""Fewer cases than the product of all parameters: as few as hold each pair of values."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

Case = Mapping[str, Hashable]


def pairwise(cases: Sequence[Case], first: Sequence[Case] = ()) -> list[int]:
    """Return the positions of few cases that together hold each value, and each pair of values of two
    parameters, that the cases hold. Those of `first` are among them. Of cases that add equally many pairs the
    first is taken, so the choice is the same in each process."""
    pairs = [pairs_of(case) for case in cases]
    chosen = [cases.index(case) for case in first]
    missing = set().union(*pairs).difference(*(pairs[number] for number in chosen))
    left = [number for number in range(len(cases)) if number not in chosen]
    while missing:
        best = max(left, key=lambda number: len(pairs[number] & missing))
        missing -= pairs[best]
        chosen.append(best)
        left = [number for number in left if pairs[number] & missing]
    return sorted(chosen)


def pairs_of(case: Case) -> set[tuple[tuple[str, Hashable], ...]]:
    return {*combinations(sorted(case.items(), key=_name), min(2, len(case)))}


def _name(item: tuple[str, Hashable]) -> str:
    return item[0]
