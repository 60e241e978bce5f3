"""A real portal with a real worker, and a real browser that looks at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser_site import FLAGS, Browsing, Served, serve
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("served")) as running:
        yield running


# By module, not by session: while Playwright's loop runs, other tests of the same process cannot start theirs.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def browsing(browser: Browser, served: Served) -> Iterator[Browsing]:
    """A person with a browser; the test fails where the browser's console holds an error."""
    browsing = Browsing(browser, served)
    yield browsing
    browsing.close()
    assert browsing.complaints == []
