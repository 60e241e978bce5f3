"""Every real TIFF, GeoTIFF and netCDF, converted and compared with what tifffile and xarray read."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray
import zarr
from PIL import Image as Picture
from valid_store import assert_valid

from scientistcloud.omezarr.check import check
from scientistcloud.omezarr.image import Array
from scientistcloud.tasks.conversion import compare, convert

TIFFS = [
    "tiff/BigTIFF.tif", "tiff/BigTIFFLong8Tiles.tif", "tiff/BigTIFFMotorola.tif", "tiff/BigTIFFSubIFD8.tif",
    "tiff/landsat_rgb.tif", "tiff/metamorph_stuck.tif", "tiff/microscopy_3d.tif", "tiff/ome/multi-channel.ome.tif",
    "geotiff/neon_osbs_029.tif", "geotiff/uav_australia_18mm.tif", "tiff/series/raw_00000.tiff",
    "tiff/series/savu_dark_00001.tiff", "tiff/series/savu_flat_00001.tiff",
]  # fmt: skip
NETCDFS = ["netcdf/eraint_uvz.nc", "netcdf/tempo_no2_groups.nc4"]


@contextmanager
def both_trees(source: Path, store: Path, *, mask_and_scale: bool) -> Iterator[tuple[Any, Any]]:
    """What xarray makes of a source and of its store."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*non-conforming '_FillValue'")  # the source's own
        with (
            xarray.open_datatree(source, mask_and_scale=mask_and_scale, decode_times=False) as before,
            xarray.open_datatree(store, engine="zarr", mask_and_scale=mask_and_scale, decode_times=False) as after,
        ):
            yield before, after


@pytest.mark.parametrize("name", TIFFS)
def test_a_tiff_converts_without_the_change_of_a_bit(name: str, data: Path, tmp_path: Path) -> None:
    form = convert(data / name, tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    source = tifffile.imread(data / name)
    if form["transposed"]:
        source = source.transpose(form["transposed"])
    made: Array = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")[form["levels"][0]["path"]][...]
    np.testing.assert_array_equal(made, source)
    assert made.dtype == source.dtype.newbyteorder("=")
    assert form["shape"] == list(source.shape)
    assert_valid(tmp_path / "a.ome.zarr")
    assert check(tmp_path / "a.ome.zarr", values=True) == source.size
    assert compare(tmp_path / "a.ome.zarr", data / name) == source.size


@pytest.mark.parametrize("name", NETCDFS)
def test_a_netcdf_gives_xarray_the_same_before_and_after(name: str, data: Path, tmp_path: Path) -> None:
    form = convert(data / name, tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    for decoded in (True, False):
        with both_trees(data / name, tmp_path / "a.ome.zarr", mask_and_scale=decoded) as (before, after):
            for image in form["images"]:
                source, made = before[image["source_array"]], after[f"0/{image['variable']}"]
                np.testing.assert_array_equal(made.values, source.values)
                assert made.dims == source.dims
                assert made.dtype == source.dtype
                assert made.attrs.get("units") == source.attrs.get("units")
    assert_valid(tmp_path / "a.ome.zarr")


def test_reanalysis_keeps_its_packing_its_coordinates_and_its_default_field(data: Path, tmp_path: Path) -> None:
    form = convert(data / "netcdf/eraint_uvz.nc", tmp_path / "a.ome.zarr")

    assert (form["sensor"], form["variable"], form["dtype"]) == ("NETCDF", "z", "int16")
    assert [axis["name"] for axis in form["axes"]] == ["month", "level", "latitude", "longitude"]
    assert form["scale_factor"] < 0
    assert [image["variable"] for image in form["images"]] == ["z", "u", "v"]
    with (
        xarray.open_dataset(data / "netcdf/eraint_uvz.nc", mask_and_scale=False) as source,
        xarray.open_zarr(tmp_path / "a.ome.zarr", group="0", mask_and_scale=False) as made,
    ):
        for name in ("month", "level", "latitude", "longitude"):
            np.testing.assert_array_equal(made[name], source[name])
        for name in ("z", "u", "v"):
            for key in ("scale_factor", "add_offset", "units", "long_name", "standard_name"):
                assert made[name].attrs[key] == source[name].attrs[key]
    with xarray.open_zarr(tmp_path / "a.ome.zarr", group="1") as half:
        assert half["latitude"].values[:2].tolist() == [89.625, 88.125]


def test_a_swath_finds_its_coordinates_that_live_in_another_group(data: Path, tmp_path: Path) -> None:
    convert(data / "netcdf/tempo_no2_groups.nc4", tmp_path / "a.ome.zarr")

    with (
        xarray.open_datatree(data / "netcdf/tempo_no2_groups.nc4") as source,
        xarray.open_zarr(tmp_path / "a.ome.zarr", group="0") as made,
    ):
        values = made["vertical_column_stratosphere"]
        for name in ("latitude", "longitude", "time"):
            assert name in values.coords
            np.testing.assert_array_equal(made[name], source["geolocation"][name])
        assert np.isnan(values).sum() == np.isnan(source["product/vertical_column_stratosphere"]).sum()
        assert np.isnan(values).sum() > 0


def test_a_folder_of_slices_becomes_one_volume_in_the_order_of_their_numbers(data: Path, tmp_path: Path) -> None:
    form = convert(data / "tiff/series", tmp_path / "a.ome.zarr")

    slices = [tifffile.imread(data / f"tiff/series/raw_{i:05}.tiff") for i in range(90)]
    root = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    np.testing.assert_array_equal(root[form["levels"][0]["path"]][...], np.stack(slices))
    assert form["shape"] == [90, 135, 160]
    assert_valid(tmp_path / "a.ome.zarr")
    source = json.loads((tmp_path / "a.ome.zarr/zarr.json").read_text())["attributes"]["scientistcloud"]["source"]
    assert len(source) == 92


def test_a_landsat_scene_keeps_its_place_on_earth(data: Path, tmp_path: Path) -> None:
    convert(data / "tiff/landsat_rgb.tif", tmp_path / "a.ome.zarr")

    with xarray.open_zarr(tmp_path / "a.ome.zarr", group="0", decode_coords="all") as scene:
        assert "32618" in str(scene["spatial_ref"].attrs) or "UTM zone 18N" in str(scene["spatial_ref"].attrs)
        # GDAL's geotransform: corner 101985, 2826915, pixels of 300.038 m; centres lie half a pixel inside.
        assert float(scene["x"][0]) == pytest.approx(101985 + 300.0379266750948 / 2)
        assert float(scene["y"][0]) == pytest.approx(2826915 - 300.041782729805 / 2)


def test_the_recipe_names_the_source_by_its_sum_and_what_was_asked_for(data: Path, tmp_path: Path) -> None:
    convert(data / "tiff/microscopy_3d.tif", tmp_path / "a.ome.zarr")

    ours = json.loads((tmp_path / "a.ome.zarr/zarr.json").read_text())["attributes"]["scientistcloud"]
    (source,) = ours["source"]
    assert source["path"] == "microscopy_3d.tif"
    assert source["sha256"] == hashlib.sha256((data / "tiff/microscopy_3d.tif").read_bytes()).hexdigest()
    assert source["size_bytes"] == 138925
    assert ours["reader"].startswith("tifffile ")
    assert ours["options"] == {"sensor": "auto", "codec": "auto"}


def test_a_second_conversion_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        convert(data / "netcdf/eraint_uvz.nc", tmp_path / name)

    one, two = ({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
                for root in (tmp_path / "one", tmp_path / "two"))  # fmt: skip
    assert one == two


# -- previews ------------------------------------------------------------------------------------


def test_the_preview_of_a_colour_image_is_the_image(data: Path, tmp_path: Path) -> None:
    convert(data / "geotiff/uav_australia_18mm.tif", tmp_path / "a", preview=tmp_path / "a.webp")

    source = tifffile.imread(data / "geotiff/uav_australia_18mm.tif").astype(int)
    with Picture.open(tmp_path / "a.webp") as preview:
        shown = np.asarray(preview.convert("RGBA")).astype(int)
        assert not preview.getexif()
    assert shown.shape[:2] == source.shape[:2]
    opaque = shown[..., 3] == 255
    assert opaque.mean() > 0.9
    assert np.abs(shown[..., :3] - source)[opaque].mean() < 6  # lossy


def test_the_preview_of_the_atmosphere_is_warm_at_the_equator_and_as_wide_as_the_world(
    data: Path, tmp_path: Path
) -> None:
    # z is packed upside down (a negative scale): high geopotential, at the equator, must be bright.
    convert(data / "netcdf/eraint_uvz.nc", tmp_path / "a", preview=tmp_path / "a.webp")

    with Picture.open(tmp_path / "a.webp") as preview:
        shown = np.asarray(preview.convert("RGB")).astype(int).sum(axis=2)
    assert shown.shape == (241, 480)
    assert shown[100:140].mean() > shown[:20].mean() + 50
    assert shown[100:140].mean() > shown[-20:].mean() + 50
