"""A real Chromium, and the page of the examples in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.support.servers import REQUIRED
from tests.support.web_servers import until

EXAMPLES = Path(__file__).parents[2] / "examples"
CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def running_chromium(profile: Path) -> Iterator[Any]:
    if not (CHROMIUM.exists() and DRIVER.exists()):
        (pytest.fail if REQUIRED else pytest.skip)("there is no chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        yield browser
    finally:
        browser.quit()


class Page:
    """What a person sees and does."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        browser.get(address)

    def __getitem__(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def say(self, words: str) -> None:
        self["#words"].send_keys(words)
        self["#send"].click()

    @property
    def messages(self) -> list[str]:
        script = "return [...document.querySelectorAll('.message')].map(message => message.textContent)"
        return list(self.browser.execute_script(script))

    @property
    def is_idle(self) -> bool:
        return bool(
            self.browser.execute_script(
                "return reading === null && !document.getElementById('delete').hidden"
            )
        )

    def comes_to(self, *messages: str) -> None:
        until(lambda: self.messages == list(messages) and self.is_idle)

    def is_shown(self, selector: str) -> bool:
        return bool(self[selector].is_displayed())
