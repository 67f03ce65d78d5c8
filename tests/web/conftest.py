from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def running_chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The browser of this worker."""
    from tests.support.browser import running_chromium  # here, because selenium takes a while to import

    with running_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def chromium(running_chromium: Any) -> Any:
    """The browser without cookies or log entries of an earlier test.

    The rest of its storage belongs to an origin, and each server has another port."""
    running_chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    running_chromium.get_log("browser")
    running_chromium.set_window_size(1200, 700)
    return running_chromium
