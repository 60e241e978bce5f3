"""What a reader of a paper does, who has no log-in: find, look, take along."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from browser_site import Browsing, Served, assert_plane, gray
from playwright.sync_api import Browser

HOSTILE = '</script><script>alert(1)</script>"><img src=x onerror=alert(2)>'


@pytest.fixture
def reading(browser: Browser, served: Served) -> Iterator[Browsing]:
    """Somebody without a log-in, whose browser has seen no error and sent nothing that changes anything."""
    reading = Browsing(browser, served)
    sent: list[str] = []
    reading.page.on("request", lambda each: sent.append(f"{each.method} {each.url}"))
    yield reading
    cookies = reading.context.cookies()
    reading.close()
    assert reading.complaints == []
    assert cookies == []
    assert [
        each for each in sent if not each.startswith("GET") and "/state/" not in each and "HEAD" not in each
    ] == []
    assert not any("/events?" in each and "/view/" not in each for each in sent)


def test_a_reader_finds_looks_and_takes_along_without_a_log_in(
    reading: Browsing, served: Served, tmp_path: Path
) -> None:
    values = np.add.outer(np.arange(120.0), 3 * np.arange(160.0))  # float64: made float32 for looking at
    tifffile.imwrite(tmp_path / "wave.tif", values)
    uuid = served.uploaded(tmp_path / "wave.tif", name=f"wave {HOSTILE}")
    with served.client() as client:
        client.describe(uuid, public=True, description=f"About {HOSTILE}", tags=[HOSTILE])
    page = reading.page
    reading.open("/public")
    page.fill("#q", "wave")
    page.keyboard.press("Enter")
    page.locator(".card", has_text="wave").click()
    frame = reading.viewer()
    page.click("button.map[aria-label='Gray']")
    page.click("#contrast-full")

    assert_plane(frame, gray(values, values.min(), values.max()))
    assert json.loads(page.locator("script[type='application/ld+json']").inner_text())["name"].endswith(HOSTILE)
    page.locator("#cite").get_by_text("@misc{scientistcloud-").wait_for()
    with page.expect_download() as fetched:
        page.get_by_role("link", name="Download wave.tif").click()
    assert Path(fetched.value.path()).read_bytes() == (tmp_path / "wave.tif").read_bytes()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    buttons = {each.inner_text().strip() for each in page.locator("button:visible").all()}
    assert not buttons & {"Convert again", "Add or remove files", "Retry"}
    assert page.locator("form[method=post]").count() == 0
    page.get_by_role("link", name="Log in").wait_for()
