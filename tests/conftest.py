from __future__ import annotations

import gc
import os
import sys
import time
from collections import defaultdict
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
from tests.support.pairwise import pairwise

STORES = [("sqlite", layout) for layout in LAYOUTS]
STORES += [(name, server.layout) for name, server in servers.SERVERS.items()]
"""The databases and layouts of the matrix: each of them, in fewer than all pairs."""


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "matrix(extent): the test runs on each database and in each layout, instead of on SQLite with "
        'documents; "full": in all pairs of them',
        "backends(*names): the databases that the test runs on",
        "layouts(*names): the layouts that the test runs in",
        "pairwise: of the product of its parameters the test runs as few cases as hold each pair of values; "
        "a test of the matrix does so, with the database and the layout as two parameters",
        "fast: the test needs no server, no browser and no process, and little time",
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
    chosen = backends.args if backends else servers.BACKENDS if matrix else servers.BACKENDS[:1]
    if matrix and not matrix.args and not layouts:
        return [pair for pair in STORES if pair[0] in chosen]
    return [*product(chosen, layouts.args if layouts else LAYOUTS if matrix else LAYOUTS[:1])]


FAST_FOLDERS = {"unit", "dsl", "sessions", "tools"}
SLOW = {
    *("compressed_responses", "echo", "echoed_messages", "http_streams", "iteration_hook", "limits"),
    *("keys_in_tracebacks", "linear_time", "litellm", "litellm_loops", "litellm_stream", "litellm_tools"),
    *("many_streams", "migration", "partial_text", "prompt_messages", "provider_failures"),
    *("provider_switch", "shop_assistant", "stored_format", "stream_connections", "sync_async_parity"),
    *("testing", "testing_plugin", "tool_running", "turn_log", "types", "workers"),
}
"""Files of these folders that import litellm, start processes, or take seconds."""


def is_fast(path: Path) -> bool:
    """Return whether a file's tests are marked `fast` where they run on SQLite.

    A new file of `FAST_FOLDERS` is fast until it is entered in `SLOW`. `pytest -m fast` takes less than
    30 seconds and needs no server."""
    return path.parent.name in FAST_FOLDERS and path.stem.removeprefix("test_") not in SLOW


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m fast` the other files are not even imported: litellm alone takes seconds."""
    leaves_out = config.option.markexpr == "fast" and collection_path.name.startswith("test_")
    return True if leaves_out and not is_fast(collection_path) else None


modules_passed_over = 0


def pytest_collection_finish() -> None:
    pass_over_modules()


def pytest_runtest_setup() -> None:
    if len(sys.modules) > modules_passed_over + 200:  # a test has imported litellm
        pass_over_modules()


def pass_over_modules() -> None:
    """Exclude the modules imported so far from garbage collections, which many tests ask for.

    A full collection takes 0.2 s otherwise."""
    global modules_passed_over
    gc.collect()
    gc.freeze()
    modules_passed_over = len(sys.modules)


ALL_CASES = os.environ.get("AGENTSESSION_TEST_CASES") == "all"
"""Whether to run the whole product of the parameters instead of its pairs."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if is_fast(item.path) and parameters.get("database_url", "sqlite").startswith("sqlite"):
            item.add_marker(pytest.mark.fast)
    if not ALL_CASES:
        dropped = {*cases_beyond_pairs(items)}
        config.hook.pytest_deselected(items=[item for item in items if item in dropped])
        items[:] = [item for item in items if item not in dropped]


def cases_beyond_pairs(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """The cases without which each pair of values of a test's parameters is still tested."""
    tests = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        if any(map(item.get_closest_marker, ("matrix", "pairwise"))) and hasattr(item, "callspec"):
            tests[item.nodeid.partition("[")[0]].append(item)
    for cases in tests.values():
        kept = {*pairwise([*map(values_of, cases)])}
        yield from (case for number, case in enumerate(cases) if number not in kept)


def values_of(item: Any) -> dict[str, Any]:
    """Return the values of a case, by parameter. The names of one `parametrize` are one parameter, a store is
    two: its database and its layout."""
    values = dict(item.callspec.params)
    backend, _, layout = values.pop("database_url", "").partition("-")
    found = {"database": backend, "layout": layout}
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0]
        together = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
        found[str(names)] = tuple(id(values.pop(name)) for name in together)
    return found | {name: id(value) for name, value in values.items()}


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
    """Replace the clock of this thread by one that a test moves."""
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
