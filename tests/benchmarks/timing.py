"""Times of two sides that take turns, so that a noisy machine hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.benchmarks.figures import Figure


class Keeper(Protocol):
    """One way to keep conversations. A turn opens no connection if there is one already."""

    name: str

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def seeded(self, length: int) -> Any:
        """The key of a new session with so many messages."""

    def turn(self, key: Any) -> None: ...


class Side(Keeper, Protocol):
    """Ours, or the floor."""

    def start(self) -> None:
        """The first turn of a new session."""

    def read(self, key: Any) -> Sequence[Any]:
        """All messages, as typed values."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: a number of seconds, but at least and at most so many rounds; and how many turns
    are counted."""

    seconds: float
    at_least: int
    at_most: int
    counted: int


FULL = Effort(0.8, 7, 150, 6)
QUICK = Effort(0.15, 5, 40, 3)


def alternate(acts: Sequence[Callable[[], object]], effort: Effort) -> list[list[float]]:
    """The seconds that each of them took in each round, after one that does not count."""
    for act in acts:
        act()
    times: list[list[float]] = [[] for _ in acts]
    end = time.perf_counter() + effort.seconds
    for round_ in range(effort.at_most):
        if round_ >= effort.at_least and time.perf_counter() > end:
            break
        for act, taken in zip(acts, times, strict=True):
            began = time.perf_counter()
            act()
            taken.append(time.perf_counter() - began)
    return times


def summary(times: list[float]) -> dict[str, float]:
    p95 = statistics.quantiles(times, n=20, method="inclusive")[-1]
    return {"p50_ms": statistics.median(times) * 1000, "p95_ms": p95 * 1000}


def beside(ours: list[float], floor: list[float]) -> Figure:
    """Both sides' times, and the ratio of their medians."""
    one, other = summary(ours), summary(floor)
    return {"rounds": len(ours), "ours": one, "floor": other, "ratio": one["p50_ms"] / other["p50_ms"]}
