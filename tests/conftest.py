from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import peewee as pw
import pytest

from agentsession import clock, testing
from tests import servers
from tests.keyed import Speaker, Speaks, keyed_model
from tests.layouts import LAYOUTS
from tests.models import Answer, chat_model
from tests.owned import KINDS, Case, named, owned


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "matrix: the test runs on each database in both layouts, instead of on SQLite with documents",
        "backends(*names): the databases that the test runs on",
        "layouts(*names): the layouts that the test runs in",
    ):
        config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes the URL of a database runs on SQLite with documents, or as its markers say."""
    if "database_url" in metafunc.fixturenames:
        is_matrix = metafunc.definition.get_closest_marker("matrix") is not None
        backends, layouts = (
            marker.args if marker else every if is_matrix else every[:1]
            for marker, every in (
                (metafunc.definition.get_closest_marker("backends"), servers.BACKENDS),
                (metafunc.definition.get_closest_marker("layouts"), LAYOUTS),
            )
        )
        names = [
            backend if layout == "document" else f"{backend}-{layout}"
            for backend, layout in product(backends, layouts)
        ]
        metafunc.parametrize("database_url", names, indirect=True)


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
def at() -> Iterator[clock.FakeClock]:
    """A clock that stands still until it is told to go on, for this thread."""
    at = clock.FakeClock(time.time())
    token = clock.fake.set(at)
    yield at
    clock.fake.reset(token)


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
