"""A survey in the portal: one photograph after the other, upright and in its colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from browser_site import Browsing, Served, assert_plane
from PIL import Image


def test_one_photograph_of_a_series_after_the_other_is_looked_at(
    browsing: Browsing, served: Served, tmp_path: Path
) -> None:
    y, x = np.mgrid[0:150, 0:220]
    upright = np.stack([x, 255 - y, (x + y) // 2], axis=-1).astype(np.uint8)
    grey = ((x * 3 + y * y // 60) % 250).astype(np.uint8)
    folder = tmp_path / "survey"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0), 6: 31.0})
    Image.fromarray(np.rot90(upright)).save(folder / "DJI_1.png", exif=exif)
    Image.fromarray(grey).save(folder / "DJI_2.png")
    uuid = served.uploaded(folder)
    browsing.log_in()
    browsing.open(f"/datasets/{uuid}")
    page = browsing.page

    assert_plane(browsing.viewer(), upright)
    assert page.inner_text("output[for='variable']") == "1 of 2"
    assert page.locator("dt:text-is('Taken at') + dd").inner_text() == "52.50000, 13.40000"
    assert page.locator("dt:text-is('Altitude') + dd").inner_text() == "31 m"

    page.click("a[aria-label='Next image']")
    page.wait_for_url("**variable=1.DJI_2")

    page.wait_for_selector("#stage[data-ready]")
    page.locator("button.map[aria-pressed='true'][aria-label='Gray']").wait_for()
    page.click("#contrast-full")
    assert_plane(browsing.viewer(), np.repeat(grey[..., None], 3, axis=-1))
    assert page.input_value("#variable") == "1.DJI_2"
    assert page.locator("a[aria-label='Next image']").count() == 0
