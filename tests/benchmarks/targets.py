"""What the figures are meant to be. The table shows it; nothing fails."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.figures import Figure

ROWS_TURN = {0: 5.0, 100: 2.0, 1000: 1.5, 5000: 1.5}
ROWS_TURN_POSTGRES = 1.5
DOCUMENT_TURN = {1000: 1.3}
ROWS_GROWTH = 1.2
READING = 1.5
WORKERS = 0.4
IMPORT_MS = 50.0


def of_turn(place: str, layout: str, figure: Figure) -> float | None:
    """The most that a turn may take, as a multiple of the floor."""
    if figure["connection"] != "open":
        return None
    if layout == "document":
        return DOCUMENT_TURN.get(figure["after"])
    return ROWS_TURN_POSTGRES if place == "postgres" else ROWS_TURN.get(figure["after"])


def at_most(figure: Figure) -> str:
    return _judged("≤", figure, lambda value, target: value <= target)


def at_least(figure: Figure) -> str:
    return _judged("≥", figure, lambda value, target: value >= target)


def _judged(sign: str, figure: Figure, holds: Callable[[float, float], bool]) -> str:
    target = figure.get("target")
    if target is None:
        return ""
    return f"{sign} {target:g} {'ok' if holds(figure['ratio'], target) else 'MISSED'}"
