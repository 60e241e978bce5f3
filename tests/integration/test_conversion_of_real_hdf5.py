"""Every real HDF5 and NeXus file, converted and compared value by value with what h5py reads, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray
import zarr
from valid_store import assert_valid

from scientistcloud.converters.registry import open_source
from scientistcloud.errors import SourceError, UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.check import check
from scientistcloud.omezarr.image import Array
from scientistcloud.tasks.conversion import compare, convert

# The default image, the names of its axes, and its shape, as SOURCES.md says or h5py shows.
PICTURES: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "hdf5/stxm_stack.hdf5": ("/entry1/counter0/data", "energy sample_y sample_x", (4, 50, 50)),
    "nexus/chopper.nxs": ("/entry/data/data", "polar_angle time_of_flight", (148, 750)),
    "nexus/savu_i18.nxs": ("/entry1/instrument/xspress3/MCAs", "dim_0 z y x", (2, 2, 10, 4096)),
    "hdf5_filters/h5ex_d_blosc.h5": ("/DS1", "y x", (32, 64)),
    "hdf5_filters/h5ex_d_blosc2.h5": ("/DS1", "y x", (32, 64)),
    "hdf5_filters/h5ex_d_bshuf.h5": ("/DS1", "y x", (32, 64)),
    "hdf5_filters/h5ex_d_bzip2.h5": ("/DS1", "y x", (32, 64)),
    "hdf5_filters/h5ex_d_lz4.h5": ("/DS1", "y x", (32, 64)),
    "hdf5_filters/h5ex_d_lzf.h5": ("/DS1", "y x", (32, 64)),
    "hdf5_filters/h5ex_d_zfp.h5": ("/DS1", "y x", (32, 64)),
    "hdf5_filters/h5ex_d_zstd.h5": ("/DS1", "z y x", (2, 512, 1024)),
    "hdf5_structure/chunked.hdf5": ("/dataset1", "y x", (21, 16)),
    "hdf5_structure/compressed.hdf5": ("/dataset1", "y x", (21, 16)),
    "hdf5_structure/dim_scales.hdf5": ("/dset1", "z y x", (4, 3, 2)),
    "hdf5_structure/filter_pipeline_v2.hdf5": ("/data", "z y x", (10, 10, 10)),
    "hdf5_structure/fletcher32.hdf5": ("/dataset1", "y x", (4, 4)),
}
REFUSALS: dict[str, tuple[type[SourceError], str]] = {
    "hdf5/i16_538039.nxs": (UnreadableSource, r"lies in '538039-pilatus100k-files/538039\.hdf', which is missing"),
    "hdf5_filters/bitshuffle_regression_0.4.0.h5": (UnsupportedSource, "plots and no picture.* of no numbers"),
    "hdf5_structure/dataset_datatypes.hdf5": (UnsupportedSource, r"plots and no picture.*/float32_big >f4 \(4,\)"),
    "hdf5_structure/fillvalue_latest.hdf5": (UnsupportedSource, r"plots and no picture.*/dset1 int8 \(4,\)"),
    "hdf5_structure/references.hdf5": (UnsupportedSource, r"plots and no picture.*/dataset1 int32 \(4,\)"),
}


def test_every_real_file_is_here(data: Path) -> None:
    folders = ("hdf5", "hdf5_filters", "hdf5_structure", "nexus")
    found = {f"{folder}/{path.name}" for folder in folders for path in (data / folder).iterdir()}

    assert found == PICTURES.keys() | REFUSALS.keys()


@pytest.mark.parametrize("name", PICTURES)
def test_a_real_file_converts_without_the_change_of_a_bit(name: str, data: Path, tmp_path: Path) -> None:
    source_name, axes, shape = PICTURES[name]
    form = convert(data / name, tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    assert form["sensor"] == "HDF5"
    assert (form["source_array"], form["shape"]) == (source_name, list(shape))
    assert [axis["name"] for axis in form["axes"]] == axes.split()
    root: Any = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    with h5py.File(data / name, "r", locking=False) as file:
        for image in form["images"]:
            source: Array = file[image["source_array"]][()]
            made: Array = root[image["levels"][0]["path"]][...]
            np.testing.assert_array_equal(made, source)
            assert made.dtype == source.dtype.newbyteorder("=")
    assert_valid(tmp_path / "a.ome.zarr")
    assert check(tmp_path / "a.ome.zarr", values=True) == compare(tmp_path / "a.ome.zarr", data / name)


@pytest.mark.parametrize("name", REFUSALS)
def test_a_real_file_without_a_picture_is_refused_for_the_right_reason(name: str, data: Path) -> None:
    error, reason = REFUSALS[name]

    with pytest.raises(error, match=reason) as refused:
        open_source(data / name)
    assert str(refused.value).startswith(Path(name).name)
    assert "\n" not in str(refused.value)


def test_an_energy_stack_keeps_its_axes_for_xarray(data: Path, tmp_path: Path) -> None:
    convert(data / "hdf5/stxm_stack.hdf5", tmp_path / "a.ome.zarr")

    with (
        h5py.File(data / "hdf5/stxm_stack.hdf5", "r", locking=False) as file,
        xarray.open_zarr(tmp_path / "a.ome.zarr", group="0") as made,
    ):
        for name, units in (("energy", "eV"), ("sample_y", "μm"), ("sample_x", "μm")):
            np.testing.assert_array_equal(made["data"][name], file["entry1/counter0"][name])
            assert made[name].attrs["units"] == units


def test_times_of_flight_are_the_centres_of_their_bins(data: Path, tmp_path: Path) -> None:
    form = convert(data / "nexus/chopper.nxs", tmp_path / "a.ome.zarr")

    with h5py.File(data / "nexus/chopper.nxs", "r", locking=False) as file:
        edges = file["entry/data/time_of_flight"][()].astype(float)
    with xarray.open_zarr(tmp_path / "a.ome.zarr", group="0") as made:
        np.testing.assert_allclose(made["time_of_flight"], (edges[1:] + edges[:-1]) / 2)
        np.testing.assert_array_equal(made["time_of_flight_bnds"], np.stack([edges[:-1], edges[1:]], 1))
    assert form["reduction"] == "maximum"  # counts
    assert any("edges of bins" in warning for warning in form["warnings"])
