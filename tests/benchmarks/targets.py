"""What the figures are meant to be. The table shows it; nothing fails."""

from __future__ import annotations

import operator
from collections.abc import Callable

from tests.benchmarks.figures import Figure, Form

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


def at_most(name: str) -> Form:
    """Is this value of the figure as small as it is meant to be?"""
    return _judged("≤", name, operator.le)


def at_least(name: str) -> Form:
    return _judged("≥", name, operator.ge)


def _judged(sign: str, name: str, holds: Callable[[float, float], bool]) -> Form:
    def form(figure: Figure) -> str:
        target = figure["target"]
        if target is None:
            return ""
        return f"{sign} {target:g} {'ok' if holds(figure[name], target) else 'MISSED'}"

    return form
