"""What others make of a store: xarray the same as of the CF source, and readers of OME-Zarr every value."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import PIL.Image
import pytest
import tensorstore
import tifffile
import xarray
import zarr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from openvisus_files import needed, write_idx
from scientistcloud.tasks.conversion import convert

SIDES = st.sampled_from([1, 2, 7, 64, 127, 257, 300])


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """A CF variable as people write them."""
    dims = draw(st.sampled_from(["yx", "zyx", "tyx", "tzyx"]))
    shape = [draw(st.integers(1, 4)) if name in "tz" else draw(SIDES) for name in dims]
    assume(sum(n > 1 for n in shape) > 1)  # else it is a plot, and refused as one
    dtype = draw(st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"]))
    whole = dtype[0] in "iu"
    return {
        "dims": dims,
        "shape": shape,
        "dtype": draw(st.sampled_from("<>")) + dtype if dtype[1] != "1" else dtype,
        "fill": draw(st.sampled_from([None, 7, 0]))
        if whole
        else draw(st.sampled_from([None, -999.0, float("nan")])),
        "packing": draw(st.sampled_from([None, (0.1, 0.0), (-0.01, 273.15), (2.0, -5.0)])) if whole else None,
        "chunks": draw(st.none() | st.just([draw(st.integers(1, n)) for n in shape])),
        "compressed": draw(st.booleans()),
        "format": draw(st.sampled_from(["NETCDF4", "NETCDF4", "NETCDF3_64BIT_DATA"])),
        "falling": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }


def write(path: Path, case: dict[str, Any]) -> None:
    generator = np.random.default_rng(case["seed"])
    dtype = np.dtype(case["dtype"])
    with warnings.catch_warnings(), netCDF4.Dataset(path, "w", format=case["format"]) as file:
        warnings.simplefilter("ignore")  # of another byte order than the machine's, which is meant
        modern = case["format"] == "NETCDF4"
        for name, length in zip(case["dims"], case["shape"], strict=True):
            file.createDimension(name, length)
            along = file.createVariable(name, "f8", (name,))
            along[:] = np.linspace(10, 20, length)[:: -1 if case["falling"] else 1]
            along.units = {"y": "degrees_north", "x": "degrees_east", "t": "hours since 2020-01-01", "z": "m"}[name]
        order = "big" if dtype.byteorder == ">" else "little" if dtype.itemsize > 1 else "native"
        how: dict[str, Any] = {"zlib": case["compressed"], "chunksizes": case["chunks"], "endian": order}
        kind = dtype.newbyteorder("=").str[1:]
        fill = case["fill"]
        field = file.createVariable("field", kind, tuple(case["dims"]), fill_value=fill, **(how if modern else {}))
        if case["packing"]:
            field.scale_factor, field.add_offset = case["packing"]
        field.units, field.long_name = "K", "what was measured"
        field.set_auto_maskandscale(False)
        if dtype.kind == "f":
            values = generator.standard_normal(case["shape"]) * 100
        else:
            values = generator.integers(0, 100, case["shape"])
        values = values.astype(dtype.newbyteorder("="))
        if case["fill"] is not None:
            values[generator.random(case["shape"]) < 0.2] = case["fill"]
        field[:] = values


@given(fields())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_xarray_makes_the_same_of_the_store_as_of_the_source(case: dict[str, Any]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        write(folder / "field.nc", case)
        convert(folder / "field.nc", folder / "store")

        for scaled in (True, False):
            with (
                xarray.open_dataset(folder / "field.nc", mask_and_scale=scaled, decode_times=scaled) as before,
                xarray.open_zarr(
                    folder / "store", group="0", mask_and_scale=scaled, decode_times=scaled, consolidated=False
                ) as after,
            ):
                ours, theirs = after["field"], before["field"]
                assert set(ours.dims) == set(theirs.dims)
                assert (ours.attrs["units"], ours.attrs["long_name"]) == ("K", "what was measured")
                np.testing.assert_array_equal(ours.transpose(*theirs.dims).values, theirs.values)
                for name in case["dims"]:
                    np.testing.assert_array_equal(ours[name].values, theirs[name].values)
    finally:
        shutil.rmtree(folder)


# -- readers that are too heavy for the suite's own environment ---------------------------------

READERS = {
    "ome-zarr": """
import json, sys, zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
node = next(iter(Reader(parse_url(sys.argv[1]))()))
print(json.dumps([[list(level.shape), float(level.sum().compute())] for level in node.data]))
""",
    "ngff-zarr": """
import json, sys
from ngff_zarr import from_ngff_zarr
levels = [image.data for image in from_ngff_zarr(sys.argv[1]).images]
print(json.dumps([[list(level.shape), float(level.astype("f8").sum().compute())] for level in levels]))
""",
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, NDArray[Any]]]:
    """Images as OME-Zarr, by what they were made of, with the values of the finest level."""
    home = tmp_path_factory.mktemp("stores")
    random = np.random.default_rng(8)
    stack = random.integers(0, 60_000, (70, 300, 260)).astype("u2")
    tifffile.imwrite(home / "stack.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    # Two photographs of different sizes: a series of two images.
    (home / "photographs").mkdir()
    colours = [random.integers(0, 256, (height, 400, 3)).astype("u1") for height in (300, 280)]
    for number, each in enumerate(colours):
        PIL.Image.fromarray(each).save(home / "photographs" / f"{number}.png")
    needed()
    write_idx(home / "idx" / "volume.idx", {"counts": [stack[:40]]})
    for source in ("stack.tif", "photographs", "idx"):
        convert(home / source, home / f"{source}.ome.zarr")
    series = {
        f"photograph {number}": (home / "photographs.ome.zarr" / str(number), np.moveaxis(each, -1, 0))
        for number, each in enumerate(colours)
    }
    return {
        "stack": (home / "stack.tif.ome.zarr", stack),
        "idx": (home / "idx.ome.zarr", stack[:40]),
        **series,
    }


def levels_of(image: Path) -> list[str]:
    """The paths of its levels below it, as its metadata has them."""
    multiscale = json.loads((image / "zarr.json").read_bytes())["attributes"]["ome"]["multiscales"][0]
    return [each["path"] for each in multiscale["datasets"]]


@pytest.mark.parametrize("kind", ["idx", "photograph 0", "photograph 1"])
def test_tensorstore_and_zarr_read_series_and_what_came_as_idx(
    kind: str, stores: dict[str, tuple[Path, NDArray[Any]]]
) -> None:
    image, values = stores[kind]
    for number, path in enumerate(levels_of(image)):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(image / path)}}
        seen = np.asarray(tensorstore.open(spec, open=True).result().read().result())
        np.testing.assert_array_equal(seen, np.asarray(zarr.open_array(image / path, mode="r")[...]))
        if number == 0:
            np.testing.assert_array_equal(seen, values)


@pytest.mark.long
@pytest.mark.parametrize("package", sorted(READERS))
def test_others_read_every_level(
    package: str, stores: dict[str, tuple[Path, NDArray[Any]]], tmp_path: Path
) -> None:
    """In an environment of its own: it brings dask and more."""
    python = environment(tmp_path / "venv", package)
    for kind, (image, values) in stores.items():
        said = subprocess.run(
            [python, "-W", "ignore", "-c", READERS[package], str(image)],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip

        levels = json.loads(said.stdout.splitlines()[-1])
        shapes = [list(zarr.open_array(image / path, mode="r").shape) for path in levels_of(image)]
        assert [shape for shape, _ in levels] == shapes, kind
        assert levels[0][1] == float(values.sum(dtype="f8")), kind


def environment(home: Path, package: str) -> str:
    python = home / "bin" / "python"
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    install = [uv, "pip", "install", "-q", "--python", str(python)]
    if not os.access(uv, os.X_OK):
        install = [str(python), "-m", "pip", "install", "-q"]
    for command in ([sys.executable, "-m", "venv", str(home)], [*install, package, "dask"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-1000:]
    return str(python)
