"""The first picture long before the conversion ends: made by the task, seen on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import xarray
import zarr
from ome_zarr_models.v05 import Image as ValidImage
from portal_site import running_site

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.layout import QUICKLOOK
from scientistcloud.omezarr import quicklook
from scientistcloud.omezarr.check import check
from scientistcloud.records import DatasetStatus
from scientistcloud.tasks import conversion
from scientistcloud.tasks.conversion import convert

VALUES = np.random.default_rng(2).integers(1000, 60_000, (40, 1200, 900)).astype("u2")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """82 MiB of deflate pages, taken for large."""
    monkeypatch.setattr(conversion, "QUICKLOOK_FROM_BYTES", 1)
    (tmp_path / "source").mkdir()
    path = tmp_path / "source" / "stack.tif"
    kind: dict[str, Any] = {"compression": "zlib", "compressionargs": {"level": 1}, "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(path, VALUES, photometric="minisblack", **kind)
    return path


def test_a_quick_look_is_a_whole_small_store_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    quick = tmp_path / QUICKLOOK
    there: list[tuple[str, bool]] = []

    form = convert(
        source,
        tmp_path / "full",
        preview=tmp_path / "preview.webp",
        quicklook=quick,
        report=lambda _fraction, step: there.append((step.split()[0], quick.exists())),
    )

    assert set(there) >= {("quick", False), ("writing", True)}
    assert ("writing", False) not in there
    assert (quick / "preview.webp").read_bytes()[8:12] == b"WEBP"
    (quick / "preview.webp").unlink()  # zarr-python warns of what is no part of a hierarchy
    check(quick, values=True)
    ValidImage.from_zarr(zarr.open_group(quick, mode="r"))
    seen: Any = xarray.open_datatree(quick, engine="zarr", consolidated=False)["0"]["image"].values
    assert 0 < seen.size <= 1 << 22
    steps = [-(-n // m) for n, m in zip(VALUES.shape, seen.shape, strict=True)]
    starts = [step // 2 for step in steps]
    picked = VALUES[tuple(slice(a, None, step) for a, step in zip(starts, steps, strict=True))]
    np.testing.assert_array_equal(seen, picked)
    assert form["shape"] == list(VALUES.shape)


@pytest.mark.parametrize("early", [0, 7])
def test_a_quick_look_at_a_scan_is_a_small_scan_with_its_maps(
    early: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "QUICKLOOK_FROM_BYTES", 1)
    monkeypatch.setattr(quicklook, "VOXELS", 20_000)
    rows, columns, height, width = 12, 10, 40, 50
    frames = np.random.default_rng(4).integers(0, 900, (rows * columns - early, height, width)).astype("u2")
    with h5py.File(tmp_path / "scan.nxs", "w") as file:
        data = file.create_group("entry/data")
        file["entry"].attrs["NX_class"] = "NXentry"
        data.attrs.update({"NX_class": "NXdata", "signal": "frames"})
        data["frames"] = frames
    quick, seen = tmp_path / QUICKLOOK, []

    convert(
        tmp_path / "scan.nxs",
        tmp_path / "full",
        sensor="4D_NEXUS",
        options=ReadOptions(scan=(rows, columns), sensor="4D_NEXUS"),
        quicklook=quick,
        report=lambda _fraction, step: seen.append((step.split()[0], quick.exists())),
    )

    assert ("writing", False) not in seen
    padded = np.full((rows * columns, height, width), 65535, "u2")
    padded[: len(frames)] = frames
    scan = padded.reshape(rows, columns, height, width)
    (quick / "preview.webp").unlink()
    check(quick, values=True)
    small: Any = zarr.open_array(quick / "data" / "0", mode="r")[:]
    assert 1000 < small.size <= 20_000
    lengths = zip(scan.shape, small.shape, strict=True)
    steps = [next(step for step in (1, 2, 4, 8) if len(range(step // 2, n, step)) == m) for n, m in lengths]
    np.testing.assert_array_equal(small, scan[tuple(slice(step // 2, None, step) for step in steps)])
    there = np.where(small == 65535, np.nan, small.astype(float))
    found: Any = xarray.open_datatree(quick, engine="zarr", consolidated=False)
    np.testing.assert_array_equal(found["0/0"]["sum"], np.where(np.isnan(there), np.nan, there).sum(axis=(2, 3)))
    np.testing.assert_allclose(found["1/0"]["mean_frame"], np.nanmean(there, axis=(0, 1)))


def test_a_conversion_that_is_cancelled_in_its_quick_look_leaves_nothing(source: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def report(_fraction: float, step: str) -> None:
        if step == "quick look":
            raise Stop

    with pytest.raises(Stop):
        convert(source, tmp_path / "full", quicklook=tmp_path / QUICKLOOK, report=report)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_the_page_shows_it_and_says_so_until_the_form_is_there(source: Path, tmp_path: Path) -> None:
    with running_site(tmp_path / "data") as site:
        uuid = site.add_dataset("large", status=DatasetStatus.CONVERTING)
        folder = site.settings.folder.dataset(uuid)
        folder.root.mkdir(parents=True)
        with site.program() as client:
            empty = client.get(f"/datasets/{uuid}").text + client.get("/").text
            convert(source, tmp_path / "full", quicklook=folder.quicklook)
            page, home = client.get(f"/datasets/{uuid}").text, client.get("/").text
            view = client.get(f"/view/{uuid}").headers["location"]
            token = view.split("/v/")[1].partition(".")[0]
            metadata = client.get(f"/view-data/{uuid}/@{token}/image/zarr.json")
            preview = client.get(f"/data/{uuid}/@{token}/preview.webp")
            shard = client.get(f"/view-data/{uuid}/@{token}/image/0/image/c/0/0/0")
            folder.quicklook.rename(tmp_path / "gone")
            after = client.get(f"/view-data/{uuid}/@{token}/image/zarr.json")

    assert "quick look" not in empty.lower()
    assert "A quick look" in page
    assert f'<img src="/data/{uuid}/@{token}/preview.webp"' in home
    assert ">Quick look<" in home
    assert f'data-token="{token}"' in page
    assert "Use from Python" not in page
    assert metadata.json()["attributes"]["ome"]["multiscales"][0]["name"] == "image"
    assert "immutable" in metadata.headers["cache-control"]
    assert preview.headers["content-type"] == "image/webp"
    assert shard.status_code == 200
    assert after.status_code == 404
