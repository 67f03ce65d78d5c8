"""The pages of `docs/`: their examples run, their tests exist, and each page is in the navigation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee as pw
import pytest

from agentsession.contrib._web.routes import ROUTES
from tests.docs.examples import ROOT, blocks, defined_tests, named_tests, run

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CONTINUES = re.compile(r"^<!-- continues: (\S+) -->$", re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def chain(page: Path) -> Iterator[Path]:
    """Yield the pages whose examples come before those of `page`, and then `page`."""
    for earlier in CONTINUES.findall(page.read_text()):
        yield from chain((page.parent / earlier).resolve())
    yield page


def with_examples() -> list[Path]:
    return [page for page in PAGES if blocks(page.read_text())]


@pytest.mark.parametrize("page", with_examples(), ids=name_of)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    try:
        for each in chain(page):
            for code in blocks(each.read_text()):
                run(code, name_of(each), namespace)
    finally:
        for database in [value for value in namespace.values() if isinstance(value, pw.Database)]:
            database.close()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_tests_that_a_page_names_exist(page: Path) -> None:
    assert named_tests(page.read_text()) <= defined_tests()


def test_the_guarantees_name_tests() -> None:
    assert len(named_tests((DOCS / "explanation" / "guarantees.md").read_text())) > 20


def test_each_page_is_in_the_navigation() -> None:
    """The build warns of a missing page, and is silent about one that no menu leads to."""
    listed = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == [name_of(page) for page in PAGES]


def test_each_route_is_in_the_page_about_the_web() -> None:
    page = (DOCS / "how-to" / "web.md").read_text()
    shown = set(re.findall(r"`([A-Z]+ /[^`?]*)", page))
    assert {f"{route.method} {route.path}" for route in ROUTES} <= shown


@pytest.mark.parametrize(
    "word",
    [
        "timestamp",
        "retention",
        "deployment",
        "logging",
        "async",
        "timeout",
        "retry",
        "cost",
        "delete",
        "GDPR",
    ],
)
def test_a_word_that_users_search_for_is_in_a_how_to(word: str) -> None:
    how_tos = [page.read_text() for page in PAGES if page.parent.name == "how-to"]
    assert any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for text in how_tos)
