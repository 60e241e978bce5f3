"""The form as the viewer can read it: float32 of every dtype, decoded in processes of the portal's own."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from portal_site import Site, running_site

from scientistcloud.omezarr.viewing import as_float32
from scientistcloud.omezarr.writer import write
from scientistcloud.portal.decoding import Decoding
from scientistcloud.portal.forms import pictures_of
from scientistcloud.portal.viewer_metadata import only_picture
from scientistcloud.testing.arrays import ArrayReader, image_of


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


def viewed(site: Site, address: str, folder: Path) -> NDArray[Any]:
    """What the viewer gets of the array at `address`, read by zarr-python."""
    with site.program() as client:
        metadata = client.get(f"{address}/zarr.json").json()
        assert client.head(f"{address}/zarr.json").headers["content-length"] == str(len(json.dumps(metadata)))
        folder.mkdir()
        (folder / "zarr.json").write_text(json.dumps(metadata))
        chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        for index in product(*(range(-(-n // c)) for n, c in zip(metadata["shape"], chunk, strict=True))):
            answer = client.get(f"{address}/c/{'/'.join(map(str, index))}")
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
            path = folder.joinpath("c", *map(str, index))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(answer.content)
    return np.asarray(zarr.open_array(folder, mode="r")[...])


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "bool", "complex64", "complex128"])
def test_every_level_of_every_dtype_is_float32(site: Site, dtype: str, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    values = (random.standard_normal((3, 300, 270)) * 1000).astype("f8").astype(dtype)
    if dtype.startswith("complex"):
        values = values * np.exp(1j * values.real).astype(dtype)
    tifffile.imwrite(tmp_path / "any.tif", np.zeros((9, 9), "u1"))
    uuid = site.add_form(tmp_path / "any.tif")
    stored = site.settings.folder.dataset(uuid).converted
    shutil.rmtree(stored)
    stored.mkdir()
    reader = ArrayReader((image_of(values), values))  # bool in a TIFF becomes uint8
    write(reader, reader.describe(), stored)
    views: dict[str, Any] = {"image": np.abs if values.dtype.kind == "c" else np.asarray}
    if values.dtype.kind == "c":
        views["image~phase"] = np.angle

    for (name, seen), level in product(views.items(), (0, 1)):
        ours = viewed(site, f"/view-data/{uuid}/@1/{name}/{level}/image", tmp_path / f"{name}{level}")
        exact = np.asarray(zarr.open_array(stored / str(level) / "image", mode="r")[...])
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, seen(exact).astype("f4"))
    with site.program() as client:
        told = client.get(f"/view-data/{uuid}/@1/image/value", params={"at": "2,299,1"}).json()
    assert told["dtype"] == dtype
    expected = values[2, 299, 1]
    if expected.dtype.kind == "c":
        assert expected.dtype.type(complex(told["value"].replace(" ", "").replace("i", "j"))) == expected
    else:
        assert told["value"] == str(expected)


def test_missing_values_come_as_nan_and_are_told_apart_to_the_last_digit(site: Site, tmp_path: Path) -> None:
    missing = -9_007_199_254_740_993  # no double is this number
    values = np.arange(200 * 200, dtype="i8").reshape(200, 200)
    values[50:60] = missing
    values[70:80] = missing + 1
    with netCDF4.Dataset(tmp_path / "counts.nc", "w") as file:
        file.createDimension("y", 200)
        file.createDimension("x", 200)
        file.createVariable("count", "i8", ("y", "x"), fill_value=missing)
        file["count"].set_auto_mask(False)
        file["count"][:] = values
    uuid = site.add_form(tmp_path / "counts.nc")

    ours = viewed(site, f"/view-data/{uuid}/@1/count/0/count", tmp_path / "count")
    with site.program() as client:
        told = client.get(f"/view-data/{uuid}/@1/count/value", params={"at": "70,0"}).json()

    np.testing.assert_array_equal(np.isnan(ours), values == missing)
    np.testing.assert_array_equal(ours[80:], values[80:])
    assert told["value"] == "-9007199254740992"


def test_images_of_unequal_shape_are_all_there(site: Site, tmp_path: Path) -> None:
    """`bioformats2raw.layout`: each in a group of its own, under a name of its own."""
    shapes = {"one": (90, 80), "other": (70, 60)}
    with netCDF4.Dataset(tmp_path / "two.nc", "w") as file:
        for name, shape in shapes.items():
            for axis, length in zip("yx", shape, strict=True):
                file.createDimension(f"{name}_{axis}", length)
            file.createVariable(name, "f8", (f"{name}_y", f"{name}_x"))[:] = np.arange(np.prod(shape)).reshape(
                shape
            )
    uuid = site.add_form(tmp_path / "two.nc")
    with site.program() as client:
        page = client.get(f"/datasets/{uuid}").text

    for group, (name, shape) in enumerate(shapes.items()):
        assert f'<option value="{group}.{name}"' in page
        ours = viewed(site, f"/view-data/{uuid}/@1/{group}.{name}/0/{name}", tmp_path / name)
        np.testing.assert_array_equal(ours, np.arange(np.prod(shape)).reshape(shape))


def test_what_is_no_chunk_and_no_place_is_said(site: Site, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "double.tif", np.ones((40, 50)))
    uuid = site.add_form(tmp_path / "double.tif")
    expected = {
        "0/image/c/0/0": 200, "0/image/c/0/1": 404, "0/image/c/0": 404, "0/image/c/0/0/0": 404,
        "0/image/c/0/x": 404, "1/image": 404, "value?at=39,49": 200, "value?at=40,0": 404, "value?at=-1,0": 404,
        "value?at=1": 404, "value?at=a,b": 400, "value": 422,
    }  # fmt: skip

    with site.program() as client:
        answers = {path: client.get(f"/view-data/{uuid}/@1/image/{path}").status_code for path in expected}

    assert answers == expected


def test_a_decoding_process_that_is_killed_is_replaced(site: Site, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "double.tif", np.random.default_rng(1).random((600, 600)))
    uuid = site.add_form(tmp_path / "double.tif")
    address = f"/view-data/{uuid}/@1/image/0/image/c"
    with site.program() as client:
        assert client.get(f"{address}/0/0").status_code == 200
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)
        after = [client.get(f"{address}/{i}/{j}").status_code for i, j in product(range(3), repeat=2)]

    assert after == [200] * 9


def test_what_is_kept_is_bounded_and_the_processes_end_with_the_portal(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    tifffile.imwrite(tmp_path / "double.tif", np.random.default_rng(1).random((600, 600)))
    with running_site(tmp_path / "data") as other:
        uuid = other.add_form(tmp_path / "double.tif")
        array = other.settings.folder.dataset(uuid).converted / "0" / "image"
        decoding = Decoding(kept_bytes=600_000, processes=1)
        try:
            chunks = {
                index: decoding.chunk(array, index, token="1", missing=(), part="value")
                for index in product(range(3), repeat=2)
            }
            assert sum(map(len, chunks.values())) > 600_000 >= decoding.size_bytes > 0
            again = {index: decoding.chunk(array, index, token="1", missing=(), part="value") for index in chunks}
            assert again == chunks
        finally:
            started = set(multiprocessing.active_children()) - before
            decoding.close()
        # Other portals of this process may have begun theirs meanwhile.
        assert multiprocessing.connection.wait([child.sentinel for child in started], timeout=30)


def test_units_and_directions_that_the_viewer_refuses_never_reach_it(site: Site, tmp_path: Path) -> None:
    """A form from elsewhere may hold both; neuroglancer throws on either."""
    tifffile.imwrite(tmp_path / "plane.tif", np.ones((40, 50), "u1"))
    uuid = site.add_form(tmp_path / "plane.tif")
    form = site.settings.folder.dataset(uuid).converted
    document = json.loads((form / "zarr.json").read_bytes())
    entry = document["attributes"]["ome"]["multiscales"][0]
    entry["axes"][0]["unit"], entry["axes"][1]["unit"] = "degrees", "micrometer"
    entry["coordinateTransformations"] = [{"type": "scale", "scale": [-1, 0]}]
    for dataset in entry["datasets"]:
        dataset["coordinateTransformations"][0]["scale"] = [-0.5, 2.0]
    (form / "zarr.json").write_text(json.dumps(document))
    (picture,) = pictures_of(form, token="77")

    shown = only_picture(document, picture)["attributes"]["ome"]["multiscales"][0]

    assert [axis.get("unit") for axis in shown["axes"]] == [None, "micrometer"]
    assert shown["coordinateTransformations"][0]["scale"] == [1, 1.0]
    assert shown["datasets"][0]["coordinateTransformations"][0]["scale"] == [0.5, 2.0]
    assert [axis.scale for axis in picture.axes] == [0.5, 2.0]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=1, max_size=20))
def test_float32_is_the_nearest_and_beyond_it_lies_infinity(values: list[float]) -> None:
    with np.errstate(over="ignore"):
        expected = np.array(values, "f8").astype("f4")

    np.testing.assert_array_equal(as_float32(np.array(values, "f8")), expected)
