"""What was measured: sections of figures, each of them a row of a table and an object of the JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Figure: TypeAlias = dict[str, Any]
Form: TypeAlias = Callable[[Figure], str]
Column: TypeAlias = tuple[str, Form]


@dataclass
class Section:
    """`head` says what was counted and how, `skipped` what could not be measured and why, `seconds` how long
    it took."""

    name: str
    title: str
    head: str
    columns: list[Column]
    figures: list[Figure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def json(self) -> Figure:
        return {"seconds": round(self.seconds, 1), "skipped": self.skipped, "figures": self.figures}

    def cells(self) -> Iterator[list[str]]:
        """The table: its head, then a line for each figure."""
        yield [name for name, _ in self.columns]
        for figure in self.figures:
            yield [form(figure) for _, form in self.columns]


def get(*path: str) -> Callable[[Figure], Any]:
    """The value at a path; None where the figure has none."""

    def found(figure: Figure) -> Any:
        value: Any = figure
        for name in path:
            value = None if value is None else value.get(name)
        return value

    return found


def column(head: str, *path: str, form: Callable[[Any], str] = str) -> Column:
    value = get(*path)
    return head, lambda figure: "–" if value(figure) is None else form(value(figure))


def pair(head: str, name: str, form: Callable[[Any], str] = str) -> Column:
    """Ours and the floor's in one cell."""
    _, ours = column(head, "ours", name, form=form)
    _, floor = column(head, "floor", name, form=form)
    return head, lambda figure: f"{ours(figure)} / {floor(figure)}"


def milliseconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def size(value: float) -> str:
    return f"{value / 1000:.1f}" if value < 100_000 else f"{value / 1000:.0f}"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.2f}"
