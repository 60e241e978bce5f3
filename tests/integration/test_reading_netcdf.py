"""Every real netCDF file, compared value by value with xarray, and what its attributes mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import iris_sample_data
import numpy as np
import pytest
import xarray

from scientistcloud.converters.formats.netcdf.attributes import unpacked
from scientistcloud.converters.formats.netcdf.variables import Variable
from scientistcloud.converters.registry import open_source
from scientistcloud.errors import UnsupportedSource
from scientistcloud.omezarr.image import Array, AxisKind, Image
from scientistcloud.testing.converters import regions, whole

SAMPLES = Path(str(iris_sample_data.path))
PICTURES = (
    "A1B_north_america.nc",
    "E1_north_america.nc",
    "atlantic_profiles.nc",
    "hybrid_height.nc",
    "orca2_votemper.nc",
    "ostia_monthly.nc",
    "rotated_pole.nc",
    "space_weather.nc",
    "toa_brightness_stereographic.nc",
    "NEMO/nemo_1m_20150101-20150201_grid-T.nc",
)


def assert_like_xarray(path: Path) -> None:
    """Stored values, and those that the attributes make of them."""
    reader = open_source(path)
    images = reader.describe().images
    for number, image in enumerate(images):
        group, name = image.source_name.rsplit("/", 1)
        with (
            xarray.open_dataset(path, group=group or None, engine="netcdf4", decode_cf=False) as raw,
            xarray.open_dataset(path, group=group or None, engine="netcdf4", decode_times=False) as physical,
        ):
            stored = raw[name].values
            meant = physical[name].values
        order = image.transposed or tuple(range(stored.ndim))
        ours = reader.read(number, whole(image))

        assert ours.dtype.isnative
        assert np.array_equal(ours, stored.transpose(order), equal_nan=ours.dtype.kind == "f")
        for region in regions(image):
            assert np.array_equal(
                reader.read(number, region), stored.transpose(order)[region], equal_nan=ours.dtype.kind == "f"
            )
        physical_of_ours = decoded(image, ours)
        assert np.allclose(physical_of_ours, meant.transpose(order), rtol=1e-6, equal_nan=True)
    reader.close()


def decoded(image: Image, values: Array) -> Array:
    """What the attributes that are handed to the writer make of stored values."""
    variable = Variable("/v", (), image.dtype, dict(image.attributes), None, None)
    return unpacked(variable, values)


@pytest.mark.filterwarnings("ignore:.*non-conforming.*_FillValue")  # xarray drops it, too
def test_a_real_netcdf_3_gives_the_values_that_xarray_gives(data: Path) -> None:
    assert_like_xarray(data / "netcdf/eraint_uvz.nc")


def test_a_real_netcdf_4_with_groups_gives_the_values_that_xarray_gives(data: Path) -> None:
    assert_like_xarray(data / "netcdf/tempo_no2_groups.nc4")


@pytest.mark.parametrize("name", PICTURES)
def test_ocean_and_climate_files_give_the_values_that_xarray_gives(name: str) -> None:
    assert_like_xarray(SAMPLES / name)


def test_the_reanalysis_shows_its_geopotential_first(data: Path) -> None:
    reader = open_source(data / "netcdf/eraint_uvz.nc")
    source = reader.describe()
    reader.close()

    first = source.images[0]
    assert [image.name for image in source.images] == ["z", "u", "v"]
    assert [(axis.name, axis.kind, axis.length) for axis in first.axes] == [
        ("month", AxisKind.TIME, 2),
        ("level", AxisKind.SPACE, 3),
        ("latitude", AxisKind.SPACE, 241),
        ("longitude", AxisKind.SPACE, 480),
    ]
    assert first.dtype == np.int16
    assert first.attributes["scale_factor"] == pytest.approx(-1.7250274674967954)
    assert first.attributes["units"] == "m**2 s**-2"
    assert "comes first in the file" in source.reason


def test_latitude_that_falls_has_a_positive_scale_and_keeps_its_order(data: Path) -> None:
    reader = open_source(data / "netcdf/eraint_uvz.nc")
    image = reader.describe().images[0]
    reader.close()

    latitude = next(each for each in image.coordinates if each.name == "latitude")
    assert (image.axes[2].spacing, image.axes[2].origin, image.axes[2].unit) == (0.75, 0.0, None)
    assert (image.axes[3].spacing, image.axes[3].origin) == (0.75, -180.0)
    assert (latitude.values[0], latitude.values[-1]) == (90, -90)
    assert latitude.attributes["units"] == "degrees_north"
    assert image.axes[1].spacing is None  # 200, 500, 850 hPa


def test_a_fill_value_that_the_type_cannot_hold_is_left_out_and_said(data: Path) -> None:
    reader = open_source(data / "netcdf/eraint_uvz.nc")
    source = reader.describe()
    reader.close()

    assert "_FillValue" not in source.images[0].attributes
    assert source.images[0].fill == ()
    assert any("/z (nan)" in warning for warning in source.warnings)


def test_coordinates_come_from_other_groups_also_those_along_two_axes(data: Path) -> None:
    reader = open_source(data / "netcdf/tempo_no2_groups.nc4")
    image = reader.describe().images[0]
    reader.close()

    found = {each.name: each.dims for each in image.coordinates}
    assert image.source_name == "/product/vertical_column_stratosphere"
    assert found == {
        "mirror_step": ("mirror_step",),
        "xtrack": ("xtrack",),
        "time": ("mirror_step",),
        "longitude": ("mirror_step", "xtrack"),
        "latitude": ("mirror_step", "xtrack"),
    }
    assert image.fill == (-1e30,)
    assert image.attributes["coordinates"].split() == ["time", "longitude", "latitude"]


def test_a_file_of_single_dimensions_is_a_plot_and_its_variables_are_named(data: Path) -> None:
    with pytest.raises(UnsupportedSource) as refused:
        open_source(data / "netcdf/ubyte.nc")

    assert "a plot, not a picture" in str(refused.value)
    assert "(ub, sb, sb2)" in str(refused.value)


def test_which_node_belongs_to_which_face_of_a_mesh_is_no_picture() -> None:
    with pytest.raises(UnsupportedSource, match=r"a plot, not a picture.*\(synthetic, "):
        open_source(SAMPLES / "mesh_C4_synthetic_float.nc")


def test_unsigned_true_false_and_absent(data: Path) -> None:
    import netCDF4

    from scientistcloud.converters.formats.netcdf.values import ClassicValues
    from scientistcloud.converters.formats.netcdf.variables import walk

    dataset: Any = netCDF4.Dataset(data / "netcdf/ubyte.nc")
    variables, _ = walk(dataset)
    values = ClassicValues(data / "netcdf/ubyte.nc")

    got = {each.name: values.read(each, (slice(0, 2),)) for each in variables}
    values.close()
    dataset.close()

    # The values that netcdf4-python's own test of this file expects.
    assert (str(got["ub"].dtype), got["ub"].tolist()) == ("uint8", [0, 255])
    assert (str(got["sb"].dtype), got["sb"].tolist()) == ("int8", [-128, 127])
    assert (str(got["sb2"].dtype), got["sb2"].tolist()) == ("int8", [-127, -127])
