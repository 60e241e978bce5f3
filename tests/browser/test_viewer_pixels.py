"""What the viewer shows is what is in the data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import tifffile
from browser_site import Browsing, Served, assert_plane, gray, pixels_of, until
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser

ROWS, COLUMNS = 150, 220


def plane(seed: int = 0) -> NDArray[np.uint16]:
    """A smooth plane without any symmetry, so that a turned or mirrored picture is noticed."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    values = 8 * x + 3 * y + 400 * np.sin(x / 25) + 500 * (y > 100) * (x < 60) + 300 * seed
    stored: NDArray[np.uint16] = (values + 500).astype(np.uint16)
    return stored


@pytest.fixture(scope="module")
def gray_picture(served: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The UUID of a data set of `plane()`."""
    path = tmp_path_factory.mktemp("gray") / "gray.tif"
    tifffile.imwrite(path, plane())
    return served.uploaded(path)


def gray_full_range(browsing: Browsing) -> None:
    browsing.page.click("button.map[aria-label='Gray']")
    browsing.page.click("#contrast-full")


def test_a_gray_picture(browsing: Browsing, gray_picture: str) -> None:
    values = plane()
    browsing.log_in()
    browsing.open(f"/datasets/{gray_picture}")
    frame = browsing.viewer()

    gray_full_range(browsing)

    assert_plane(frame, gray(values, values.min(), values.max()))

    browsing.page.fill("#low-value", "1000")
    browsing.page.fill("#high-value", "2000")
    browsing.page.press("#high-value", "Enter")

    assert_plane(frame, gray(values, 1000, 2000))


def test_a_colour_picture(browsing: Browsing, served: Served, tmp_path: Path) -> None:
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    values = np.stack([x, 255 - y, (x + y) // 2], axis=-1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "colour.tif", values, photometric="rgb")
    uuid = served.uploaded(tmp_path / "colour.tif")
    browsing.log_in()
    browsing.open(f"/datasets/{uuid}")

    assert_plane(browsing.viewer(), values)


def test_planes_of_a_stack_and_its_volume(browsing: Browsing, served: Served, tmp_path: Path) -> None:
    values = np.stack([plane(seed) for seed in range(24)])
    tifffile.imwrite(tmp_path / "stack.tif", values, metadata={"axes": "ZYX"})
    uuid = served.uploaded(tmp_path / "stack.tif")
    browsing.log_in()
    browsing.open(f"/datasets/{uuid}")
    frame = browsing.viewer()
    until(lambda: _assert_complete(frame.evaluate("scene.layout()") == "4panel"))

    browsing.page.click("[data-layout='xy']")
    gray_full_range(browsing)
    slider = browsing.page.locator("[data-slider='z'] input")

    assert_plane(frame, gray(values[12], values.min(), values.max()))

    slider.fill("20")

    assert_plane(frame, gray(values[20], values.min(), values.max()))
    browsing.page.locator("[data-slider='z'] output", has_text="21 of 24").wait_for()

    browsing.page.click("[data-layout='3d']")

    def volume_is_there() -> None:
        screen = pixels_of(frame.locator("canvas").first)
        assert (screen.max(axis=-1) > 60).mean() > 0.05

    until(volume_is_there)


def test_a_time_series_with_units_missing_values_and_the_north_on_top(
    browsing: Browsing, served: Served, tmp_path: Path
) -> None:
    values = np.stack([plane(seed) for seed in range(4)]).astype(np.float32) / 10
    values[:, 20:40, 150:180] = np.nan
    with netCDF4.Dataset(tmp_path / "field.nc", "w") as file:
        for name, length in (("time", 4), ("latitude", ROWS), ("longitude", COLUMNS)):
            file.createDimension(name, length)
        time = file.createVariable("time", "f8", ("time",))
        time[:] = np.arange(4) * 6
        time.units = "hours since 2026-01-01"
        latitude = file.createVariable("latitude", "f8", ("latitude",))
        latitude[:] = np.linspace(10, 24.9, ROWS)  # from south to north
        latitude.units = "degrees_north"
        longitude = file.createVariable("longitude", "f8", ("longitude",))
        longitude[:] = np.linspace(100, 121.9, COLUMNS)
        longitude.units = "degrees_east"
        field = file.createVariable("field", "f4", ("time", "latitude", "longitude"), fill_value=np.float32(np.nan))
        field[:] = values
        field.units = "K"
    uuid = served.uploaded(tmp_path / "field.nc")
    browsing.log_in()
    browsing.open(f"/datasets/{uuid}")
    frame = browsing.viewer()
    gray_full_range(browsing)
    low, high = np.nanmin(values), np.nanmax(values)

    def expected(step: int) -> np.ndarray:
        return gray(np.nan_to_num(values[step], nan=-1e9), low, high)  # missing values show the black behind them

    assert_plane(frame, expected(2))

    browsing.page.locator("[data-slider='time'] input").fill("0")

    assert_plane(frame, expected(0))
    assert browsing.page.inner_text("#contrast .unit") == "K"


def test_types_that_the_viewer_lacks_are_shown_all_the_same(
    browsing: Browsing, served: Served, tmp_path: Path
) -> None:
    around = np.exp(1j * np.linspace(-3, 3, COLUMNS))
    values: dict[str, NDArray[Any]] = {
        "float64": plane().astype("f8") * 1e-12,
        "float16": plane().astype("f2"),
        "int64": plane().astype("i8") * 10**12,
        "bool": plane() > 1500,
        "complex64": (plane() * around).astype("c8"),
    }
    with h5py.File(tmp_path / "types.h5", "w") as file:
        for dtype, each in values.items():
            file[dtype] = each
    uuid = served.uploaded(tmp_path / "types.h5")
    browsing.log_in()
    for dtype, each in values.items():
        browsing.open(f"/datasets/{uuid}?variable={dtype}")
        frame = browsing.viewer()
        assert browsing.page.locator("dt:text-is('Values') + dd").inner_text() == dtype
        gray_full_range(browsing)
        seen = np.abs(each).astype(np.float64)

        assert_plane(frame, gray(seen, seen.min(), seen.max()))
        written = browsing.page.input_value("#high-value")
        assert float(written) == pytest.approx(seen.max(), rel=1e-5), "short, and not rounded to nothing"
        assert len(written) <= 12

    browsing.page.select_option("#variable", label="complex64, phase")
    browsing.page.wait_for_url("**variable=*phase")
    frame = browsing.viewer()
    gray_full_range(browsing)

    assert_plane(frame, gray(np.angle(values["complex64"]), -np.pi, np.pi))


def test_missing_values_of_whole_numbers_are_not_shown(browsing: Browsing, served: Served, tmp_path: Path) -> None:
    fills = {"uint64": 2**64 - 1, "int64": 2**63 - 1, "int32": -(2**31), "uint8": 255}
    values = {name: (plane() // 20).astype(name) for name in fills}
    with netCDF4.Dataset(tmp_path / "filled.nc", "w") as file:
        file.createDimension("y", ROWS)
        file.createDimension("x", COLUMNS)
        for name, fill in fills.items():
            values[name][40:90, 70:150] = fill
            file.createVariable(name, name, ("y", "x"), fill_value=fill)[:] = values[name]
    uuid = served.uploaded(tmp_path / "filled.nc")
    browsing.log_in()
    for name, fill in fills.items():
        browsing.open(f"/datasets/{uuid}?variable={name}")
        frame = browsing.viewer()
        gray_full_range(browsing)
        there = values[name] != fill
        low, high = (float(each) for each in (values[name][there].min(), values[name][there].max()))

        assert_plane(frame, gray(np.where(there, values[name].astype(float), low), low, high))


def test_the_viewer_alone_shows_it_too(browsing: Browsing, gray_picture: str) -> None:
    values = plane()
    browsing.log_in()
    browsing.open(f"/view/{gray_picture}")
    browsing.page.wait_for_function("window.scene && scene.ready.then(() => true)")
    frame = browsing.page.main_frame
    low, high = (float(each) for each in (values.min(), values.max()))
    frame.evaluate(f"scene.setContrast(0, {low}, {high})")

    def not_black() -> None:
        assert (pixels_of(frame.locator("canvas").first).max(axis=-1) > 40).mean() > 0.3

    until(not_black)


def test_the_value_under_the_pointer_is_the_one_in_the_data(browsing: Browsing, gray_picture: str) -> None:
    values = plane()
    browsing.log_in()
    browsing.open(f"/datasets/{gray_picture}")
    browsing.viewer()
    box = browsing.page.locator("#stage").bounding_box()
    assert box is not None

    def readout_is_right() -> None:
        for nudge in (0, 1):  # the second movement reports what the first one found
            browsing.page.mouse.move(box["x"] + box["width"] / 2 + nudge, box["y"] + box["height"] / 2 + 5)
        words = browsing.page.locator("#readout").text_content() or ""
        parts = words.split()
        assert len(parts) == 5, words
        assert parts[0] == "x"
        assert float(parts[4]) == values[int(parts[3]), int(parts[1])]

    until(readout_is_right)


@pytest.mark.long
def test_the_picture_in_the_readme(browser: Browser, served: Served, data: Path, tmp_path: Path) -> None:
    """`SCREENSHOTS=docs/images make test-long ARGS="-k readme"` takes it anew."""
    uuid = served.uploaded(data / "netcdf" / "eraint_uvz.nc", name="ERA-Interim, wind and geopotential")
    browsing = Browsing(browser, served, viewport={"width": 1360, "height": 860}, color_scheme="dark")
    browsing.log_in()
    browsing.open(f"/datasets/{uuid}?variable=u")
    frame = browsing.viewer()
    until(lambda: _assert_complete(frame.evaluate("scene.complete()")))
    browsing.page.click("button.map[aria-label='Cool to warm']")
    browsing.page.wait_for_timeout(2000)
    picture = Path(os.environ.get("SCREENSHOTS") or tmp_path) / "dataset.png"
    browsing.page.screenshot(path=picture)
    browsing.close()
    assert browsing.complaints == []
    assert len(np.unique(np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3), axis=0)) > 500


def _assert_complete(complete: bool) -> None:
    assert complete
