"""A scan of frames in two linked panes: what one chooses in one of them is shown in the other."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from browser_site import Browsing, Served, gray, pixels_of, until
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page

SHAPE = ROWS, COLUMNS, HEIGHT, WIDTH = 5, 7, 12, 16


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint16]:
    random = np.random.default_rng(3)
    values: NDArray[np.uint16] = random.integers(0, 60, SHAPE).astype(np.uint16)
    values[..., 3:5, 9:12] += random.integers(200, 900, (ROWS, COLUMNS, 1, 1)).astype(np.uint16)
    return values


@pytest.fixture(scope="module")
def scan(served: Served, frames: NDArray[np.uint16], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The UUID of a data set of `frames`, in a file as beamlines write them."""
    path = tmp_path_factory.mktemp("scan") / "scan.nxs"
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        detector = entry.create_group("instrument/detector")
        detector.attrs["NX_class"] = "NXdetector"
        data = entry.create_group("data")
        data.attrs.update({"NX_class": "NXdata", "signal": "frames"})
        data["frames"] = detector.create_dataset("frames", data=frames)
    return served.uploaded(path)


def pane(page: Page, side: str) -> Locator:
    return page.locator(f"#{side}-pane")


def choose(page: Page, side: str, first: tuple[int, int], last: tuple[int, int] | None = None) -> None:
    """Click the pixel `first`, or draw a rectangle from it to `last`."""
    canvas = pane(page, side).locator("canvas")
    height, width = canvas.evaluate("(it) => [it.height, it.width]")
    box = canvas.bounding_box()
    assert box is not None
    places = [
        (box["x"] + box["width"] * (x + 0.5) / width, box["y"] + box["height"] * (y + 0.5) / height)
        for y, x in (first, last or first)
    ]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1])
    page.mouse.up()


def assert_pane(page: Page, side: str, values: NDArray[np.generic]) -> None:
    """The pane shows `values` in grays over their full range, each in the middle of its place on the screen."""
    expected = gray(np.asarray(values), float(np.nanmin(values)), float(np.nanmax(values)))
    height, width = values.shape

    def check() -> None:
        canvas = pane(page, side).locator("canvas")
        assert canvas.evaluate("(it) => [it.height, it.width]") == [height, width]
        screen = pixels_of(canvas)
        y = ((np.arange(height) + 0.5) * screen.shape[0] / height).astype(int)
        x = ((np.arange(width) + 0.5) * screen.shape[1] / width).astype(int)
        difference = np.abs(screen[np.ix_(y, x)].astype(float) - expected)
        assert difference.max() <= 3, difference.max()

    until(check)


def in_grays(page: Page) -> None:
    page.locator("#map-pane[data-ready]").wait_for()
    page.locator("#frame-pane[data-ready]").wait_for()
    page.click("button.map[aria-label='Gray']")
    for side in ("map", "frame"):
        pane(page, side).get_by_role("button", name="Full", exact=True).click()


def test_a_place_on_the_scan_shows_its_frame_and_one_on_the_detector_its_map(
    browsing: Browsing, scan: str, frames: NDArray[np.uint16]
) -> None:
    browsing.log_in()
    browsing.open(f"/datasets/{scan}")
    page = browsing.page
    in_grays(page)
    counts = frames.astype(float)

    assert_pane(page, "map", counts.sum(axis=(2, 3)))
    assert_pane(page, "frame", counts[ROWS // 2, COLUMNS // 2])

    choose(page, "map", (1, 5))
    assert_pane(page, "frame", counts[1, 5])
    assert page.input_value("#scan-column") == "5"

    choose(page, "frame", (4, 10))
    assert_pane(page, "map", counts[:, :, 4, 10])
    assert page.input_value("#map-shows") == ""

    choose(page, "frame", (7, 12), (2, 8))
    assert_pane(page, "map", counts[:, :, 2:8, 8:13].sum(axis=(2, 3)))

    choose(page, "map", (0, 2), (3, 4))
    assert_pane(page, "frame", counts[0:4, 2:5].sum(axis=(0, 1)))
    page.get_by_role("button", name="Mean").click()
    assert_pane(page, "frame", counts[0:4, 2:5].mean(axis=(0, 1)))

    pane(page, "frame").locator("canvas").focus()
    page.keyboard.press("ArrowRight")  # from where the rectangle begins
    assert_pane(page, "map", counts[:, :, 2, 9])

    page.select_option("#frame-shows", label="Maximum over the scan")
    assert_pane(page, "frame", counts.max(axis=(0, 1)))
    page.locator("#scan-row").focus()
    page.keyboard.press("ArrowRight")
    assert_pane(page, "frame", counts[1, 2])


def test_the_images_of_a_scan_are_in_the_viewer_as_well(browsing: Browsing, scan: str) -> None:
    browsing.log_in()
    browsing.open(f"/datasets/{scan}")
    browsing.page.select_option("#variable", label="mean_frame")
    browsing.page.wait_for_url("**variable=*mean_frame")
    browsing.viewer()
    assert browsing.page.locator("#panes").count() == 0

    browsing.page.select_option("#variable", label="Scan and frames")
    browsing.page.locator("#map-pane[data-ready]").wait_for()


def test_a_fluorescence_map_of_a_beamline(browsing: Browsing, served: Served, data: Path) -> None:
    source = data / "nexus" / "savu_i18.nxs"
    with h5py.File(source) as file:
        stored = file["/entry1/instrument/xspress3/MCAs"][()]
    with served.client() as client:
        uuid = client.upload([source], name="i18", sensor="4D_NEXUS")
        client.wait(uuid)
    browsing.log_in()
    browsing.open(f"/datasets/{uuid}")
    in_grays(browsing.page)

    assert_pane(browsing.page, "map", stored.sum(axis=(2, 3)))
    choose(browsing.page, "map", (0, 1))

    def the_frame_is_there() -> None:
        seen = browsing.page.evaluate(
            """() => {
              const it = document.querySelector("#frame-pane canvas");
              const { data } = it.getContext("2d").getImageData(0, 0, it.width, it.height);
              return Array.from(data).filter((_, i) => i % 4 === 0);
            }"""
        )
        frame = stored[0, 1]
        wanted = gray(frame, frame.min(), frame.max())[..., 0]
        assert np.abs(np.reshape(seen, frame.shape) - wanted).max() <= 1

    until(the_frame_is_there)
