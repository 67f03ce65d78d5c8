from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import peewee as pw
import pytest

from agentsession import _clock, testing
from tests.support import servers
from tests.support.idempotent_models import Speaker, Speaks, keyed_model
from tests.support.layouts import LAYOUTS
from tests.support.models import Answer, chat_model
from tests.support.owned_models import KINDS, Case, named, owned

STORES = [("sqlite", "document"), ("sqlite", "rows"), ("postgres", "rows"), ("mariadb", "document")]
"""The databases and layouts of the matrix: each of them, in fewer than all pairs."""


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "matrix(extent): the test runs on each database and in each layout, instead of on SQLite with "
        'documents; "full": in all pairs of them',
        "backends(*names): the databases that the test runs on",
        "layouts(*names): the layouts that the test runs in",
    ):
        config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes the URL of a database runs on SQLite with documents, or as its markers say."""
    if "database_url" in metafunc.fixturenames:
        pairs = stores_of(*map(metafunc.definition.get_closest_marker, ("matrix", "backends", "layouts")))
        names = [backend if layout == "document" else f"{backend}-{layout}" for backend, layout in pairs]
        metafunc.parametrize("database_url", names, indirect=True)


def stores_of(matrix: Any, backends: Any, layouts: Any) -> list[tuple[str, str]]:
    """The databases and layouts that these markers choose."""
    if matrix and not (matrix.args or backends or layouts):
        return STORES
    chosen = backends.args if backends else servers.BACKENDS if matrix else servers.BACKENDS[:1]
    return [*product(chosen, layouts.args if layouts else LAYOUTS if matrix else LAYOUTS[:1])]


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of the test's own; the layout of the sessions in it stands behind a `#`."""
    backend, _, layout = request.param.partition("-")
    url = servers.place_of(backend, tmp_path)
    yield f"{url}#{layout}" if layout else url
    servers.remove(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Any]:
    opened = servers.open_database(database_url)
    opened.url = database_url
    yield opened
    if not opened.is_closed():
        opened.close()


@pytest.fixture
def Chat(database: Any) -> Any:
    return chat_model(database)


@pytest.fixture
def at() -> Iterator[_clock.FakeClock]:
    """A clock that stands still until it is told to go on, for this thread."""
    at = _clock.FakeClock(time.time())
    token = _clock.fake.set(at)
    yield at
    _clock.fake.reset(token)


@pytest.fixture(params=["start", "continue"])
def speaker(request: Any, database: Any) -> Speaks:
    def make(**options: Any) -> Speaker:
        Chat = keyed_model(database, **options)
        if request.param == "start":
            return Speaker(Chat)
        with testing.script(Chat, [Answer(content="hi") if "output_schema" in options else "hi"]):
            return Speaker(Chat, Chat.start_session("Before").id)

    return make


@pytest.fixture(params=KINDS, ids=named)
def case(request: Any, database: Any) -> Case:
    made: Case = request.param(database)
    return made


@pytest.fixture
def Texts(database: Any) -> Any:
    return owned(database, pw.CharField())
