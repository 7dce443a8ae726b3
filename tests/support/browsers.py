"""A headless Chromium for tests of pages, or the reason why there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium() -> str:
    """The path of a Chromium; skips the test where there is none, or nothing to steer it."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no page is opened in a browser")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed: no page is opened in a browser")
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """A running browser of playwright's."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as steered:
        sandbox = [] if os.name != "posix" or os.geteuid() else ["--no-sandbox"]  # root has none
        opened = steered.chromium.launch(executable_path=path, args=sandbox)
        try:
            yield opened
        finally:
            opened.close()


class Visit:
    """A page in the browser: what it wrote on its console, and what it asked the network for."""

    def __init__(self, browser: Any, file: Path, **how: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(**how)
        self.page.set_default_timeout(90_000)  # tests may have half a core
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def ready(self) -> Any:
        """The page when tables and plots are made."""
        self.page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        return self.page

    @property
    def fetched(self) -> list[str]:
        """Requests that are none of the page's own parts."""
        return [url for url in self.asked[1:] if not url.startswith(("blob:", "data:"))]
