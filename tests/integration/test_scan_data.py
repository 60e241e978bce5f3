"""Frames and maps of a scan over HTTP, against sums that NumPy makes of the same numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from portal_site import Site, running_site

from scientistcloud.errors import InvalidParameters
from scientistcloud.omezarr import regions

ROWS, COLUMNS, HEIGHT, WIDTH = 30, 6, 20, 24
MASK = np.zeros((HEIGHT, WIDTH), np.uint32)
MASK[5, 3] = MASK[7, 20] = 1  # two of the pixels that are summed below
FRAMES = ROWS * COLUMNS - 3  # the scan ended early


@pytest.fixture(scope="module")
def values() -> NDArray[np.uint16]:
    return np.random.default_rng(1).integers(0, 5000, (FRAMES, HEIGHT, WIDTH)).astype(np.uint16)


@pytest.fixture(scope="module")
def scan(values: NDArray[np.uint16]) -> NDArray[np.float64]:
    """The scan as it should be: NaN where there is no frame."""
    whole = np.full((ROWS * COLUMNS, HEIGHT, WIDTH), np.nan)
    whole[:FRAMES] = values
    return whole.reshape(ROWS, COLUMNS, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def address(site: Site, values: NDArray[np.uint16], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("scan") / "scan.nxs"
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        file["entry"].attrs["NX_class"] = "NXentry"
        data.attrs.update({"NX_class": "NXdata", "signal": "frames", "scan_shape": [ROWS, COLUMNS]})
        detector = file.create_group("entry/detector")
        detector.attrs["NX_class"] = "NXdetector"
        data["frames"] = detector.create_dataset("frames", data=values)
        detector["pixel_mask"] = MASK
    return f"/scan-data/{site.add_form(path)}/@1"


def fetched(site: Site, path: str) -> NDArray[Any]:
    with site.program() as program:
        answer = program.get(path)
    assert answer.status_code == 200, answer.text
    assert "immutable" in answer.headers["Cache-Control"]
    array: NDArray[Any] = np.load(io.BytesIO(answer.content), allow_pickle=False)
    return array


def test_one_point_gives_its_frame_as_it_is_stored(site: Site, address: str, values: NDArray[np.uint16]) -> None:
    frame = fetched(site, f"{address}/frame?rows=2&columns=5")

    assert frame.dtype == np.uint16
    np.testing.assert_array_equal(frame, values[2 * COLUMNS + 5])


def test_all_pixels_together_are_the_sum_of_the_conversion(site: Site, address: str) -> None:
    everything = fetched(site, f"{address}/map?rows=0:{HEIGHT}&columns=0:{WIDTH}")

    np.testing.assert_array_equal(everything, fetched(site, f"{address}/images/0.sum"))


@pytest.mark.parametrize("how", ["sum", "mean"])
def test_a_region_counts_the_frames_that_there_are(
    site: Site, address: str, scan: NDArray[np.float64], how: str
) -> None:
    made: Any = {"sum": np.nansum, "mean": np.nanmean}[how]

    over_points = fetched(site, f"{address}/frame?rows=3:30&columns=1:6&how={how}")
    over_pixels = fetched(site, f"{address}/map?rows=4:9&columns=0:24&how={how}")

    np.testing.assert_allclose(over_points, made(scan[3:30, 1:6], axis=(0, 1)), rtol=1e-12)
    good = np.where(MASK == 0, np.nan_to_num(scan), np.nan)
    expected = made(good[:, :, 4:9], axis=(2, 3))
    expected[-1, -3:] = np.nan  # no frame
    np.testing.assert_allclose(over_pixels, expected, rtol=1e-12)


def test_large_regions_are_read_in_parts(
    tmp_path: Path, site: Site, address: str, scan: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    form = site.settings.folder.dataset(address.split("/")[2]).converted
    known: dict[str, Any] = {"mean": False, "missing": (65535,), "token": "1"}
    whole = regions.over_region(form / "data/0", regions.Over.POINTS, (0, ROWS), (0, COLUMNS), **known)
    monkeypatch.setattr(regions, "_HELD_BYTES", 1)

    parts = regions.over_region(form / "data/0", regions.Over.POINTS, (0, ROWS), (0, COLUMNS), **known)

    assert parts == whole
    np.testing.assert_allclose(np.load(io.BytesIO(parts)), np.nansum(scan, axis=(0, 1)))
    monkeypatch.setattr(regions, "MOST_BYTES", 1000)
    with pytest.raises(InvalidParameters, match="smaller region"):
        regions.over_region(form / "data/0", regions.Over.POINTS, (0, 2), (0, 2), **known)


def test_an_image_of_the_scan_is_fetched_as_numbers(site: Site, address: str, values: NDArray[np.uint16]) -> None:
    with site.program() as program:
        page = program.get(address.replace("/scan-data/", "/datasets/").removesuffix("/@1")).text
    assert "Scan and frames" in page
    assert f"{ROWS} × {COLUMNS} × {HEIGHT} × {WIDTH} in chunks of" in page

    np.testing.assert_array_equal(fetched(site, f"{address}/images/1.maximum_frame"), values.max(axis=0))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("frame?rows=30&columns=0", 404),
        ("frame?rows=3:3&columns=0", 404),
        ("map?rows=0:21&columns=0", 404),
        ("map?rows=-1&columns=0", 400),
        ("map?rows=a&columns=0", 400),
        ("volume?rows=0&columns=0", 404),
        ("images/nothing", 404),
        ("frame?rows=0", 422),
    ],
)
def test_what_is_not_there_is_refused(site: Site, address: str, path: str, status: int) -> None:
    with site.program() as program:
        answer = program.get(f"{address}/{path}")

    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")


def test_a_stranger_and_a_form_without_a_scan_get_nothing(site: Site, address: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "flat.tif", np.zeros((8, 9), np.uint8))
    flat = site.add_form(tmp_path / "flat.tif")

    with site.stranger() as stranger, site.program() as program:
        assert stranger.get(f"{address}/frame?rows=0&columns=0").status_code == 404
        assert program.get(f"/scan-data/{flat}/@1/frame?rows=0&columns=0").status_code == 404
