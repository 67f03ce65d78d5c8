from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.models import chat_model


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "backends(*names): the databases that the test runs on, instead of all"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes the URL of a database runs on each of them."""
    if "database_url" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("backends")
        names = marker.args if marker else servers.BACKENDS
        metafunc.parametrize("database_url", names, indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of the test's own."""
    url = servers.place_of(request.param, tmp_path)
    yield url
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
