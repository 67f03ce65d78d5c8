"""Sections as text: aligned for a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.figures import Section


def lines(section: Section, *, markdown: bool = False) -> Iterator[str]:
    yield f"### {section.title}" if markdown else section.title
    yield ""
    yield section.head
    yield ""
    if section.figures:
        yield from _table(list(section.cells()), markdown)
    for reason in section.skipped:
        yield ""
        yield f"Skipped: {reason}"
    yield ""


def _table(rows: list[list[str]], markdown: bool) -> Iterator[str]:
    """Text stands left, numbers stand right. Columns that are empty everywhere are left out."""
    columns = [cells for cells in zip(*rows, strict=True) if any(cells[1:])]
    aligned = [_aligned(cells, markdown) for cells in columns]
    for row in zip(*aligned, strict=True):
        yield f"| {' | '.join(row)} |" if markdown else "  ".join(row).rstrip()


def _aligned(cells: tuple[str, ...], markdown: bool) -> list[str]:
    right = all(not cell or cell[0].isdigit() or cell[0] == "–" for cell in cells[1:])
    width = max(map(len, cells))
    rule = "-" * (width - 1) + (":" if right else "-")
    padded = [cell.rjust(width) if right else cell.ljust(width) for cell in cells]
    return [padded[0], rule if markdown else "-" * width, *padded[1:]]
