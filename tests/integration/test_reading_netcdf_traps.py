"""What is easily got wrong with netCDF, shown on files that the netCDF library wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.registry import open_source
from scientistcloud.errors import UnsupportedSource
from scientistcloud.omezarr.image import Array, AxisKind, Image, Reduction, Source
from scientistcloud.testing.converters import regions, whole

FORMATS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4", "NETCDF4_CLASSIC"]


class File:
    """A netCDF file in the making."""

    def __init__(self, path: Path, form: Any = "NETCDF4") -> None:
        self.path = path
        self.root: Any = netCDF4.Dataset(path, "w", format=form)

    def dims(self, group: Any = None, **lengths: int | None) -> File:
        for name, length in lengths.items():
            (group or self.root).createDimension(name, length)
        return self

    def add(
        self,
        name: str,
        dtype: Any,
        dims: Sequence[str],
        values: Any = None,
        *,
        group: Any = None,
        storage: dict[str, Any] | None = None,
        **attributes: Any,
    ) -> File:
        fill = {"fill_value": attributes.pop("_FillValue")} if "_FillValue" in attributes else {}
        variable = (group or self.root).createVariable(name, dtype, dims, **(storage or {}), **fill)
        variable.set_auto_maskandscale(False)
        variable.setncatts(attributes)
        if values is not None:
            variable[:] = values
        elif dims:
            size = int(np.prod([len(variable.get_dims()[i]) for i in range(len(dims))]))
            variable[:] = np.arange(size).reshape(variable.shape).astype(dtype)
        return self

    def read(self, **options: Any) -> tuple[Source, list[Array]]:
        self.root.close()
        reader = open_source(self.path, options=ReadOptions(**options))
        try:
            source = reader.describe()
            values = [reader.read(number, whole(image)) for number, image in enumerate(source.images)]
            for number, image in enumerate(source.images):
                for part in regions(image):
                    assert np.array_equal(reader.read(number, part), values[number][part])
            return source, values
        finally:
            reader.close()

    def first(self) -> Image:
        return self.read()[0].images[0]


def roles(image: Image) -> list[tuple[str, str]]:
    return [(axis.name, axis.kind.value) for axis in image.axes]


# -- how values are stored ------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_each_form_of_the_file_gives_the_same_values(tmp_path: Path, form: str) -> None:
    values = np.random.default_rng(5).normal(size=(3, 7, 9)).astype("f4")
    file = File(tmp_path / "a.nc", form).dims(time=None, y=7, x=9)
    file.add("time", "f8", ["time"], [0, 1, 2], units="days since 2000-01-01")
    file.add("a", "f4", ["time", "y", "x"], values).add("b", "i2", ["time", "y", "x"])

    source, got = file.read()

    assert [image.name for image in source.images] == ["a", "b"]
    assert np.array_equal(got[0], values)
    assert got[1].ravel().tolist() == list(range(189))


def test_the_only_record_variable_is_not_padded_and_several_are(tmp_path: Path) -> None:
    values = np.arange(12, dtype="i1").reshape(4, 3)
    alone = File(tmp_path / "a.nc", "NETCDF3_CLASSIC").dims(time=None, x=3).add("a", "i1", ["time", "x"], values)
    two = File(tmp_path / "b.nc", "NETCDF3_CLASSIC").dims(time=None, x=3)
    two.add("a", "i1", ["time", "x"], values).add("b", "i1", ["time", "x"], values[::-1])

    assert np.array_equal(alone.read()[1][0], values)
    got = two.read()[1]
    assert np.array_equal(got[0], values)
    assert np.array_equal(got[1], values[::-1])


def test_big_endian_values_of_netcdf_4_come_in_native_order(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=5, x=6)

    source, got = file.add("a", ">i4", ["y", "x"], storage={"endian": "big"}).read()

    assert source.images[0].dtype.isnative
    assert got[0].dtype.isnative
    assert got[0].ravel().tolist() == list(range(30))


def test_chunks_are_told_to_the_writer(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(z=10, y=20, x=30)

    image = file.add("a", "f4", ["z", "y", "x"], storage={"zlib": True, "chunksizes": (2, 5, 30)}).first()

    assert image.source_chunk == (2, 5, 30)


def test_packed_values_stay_packed(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=2, x=3)
    file.add("a", "i2", ["y", "x"], scale_factor=-0.5, add_offset=10.0, _FillValue=np.int16(-1), units="K")

    source, got = file.read()

    image = source.images[0]
    assert (image.dtype, image.fill) == (np.dtype("i2"), (-1,))
    assert got[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert image.attributes == {"scale_factor": -0.5, "add_offset": 10.0, "_FillValue": -1, "units": "K"}


def test_several_values_mean_no_data(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=2, x=3)
    missing = np.array([-9, -8], "i2")
    image = file.add("a", "i2", ["y", "x"], _FillValue=np.int16(-7), missing_value=missing).first()

    assert sorted(image.fill) == [-9, -8, -7]
    assert image.attributes["missing_value"] == [-9, -8]
    assert image.attributes["_FillValue"] == -7


def test_a_fill_value_is_of_the_type_of_the_values(tmp_path: Path) -> None:
    image = File(tmp_path / "a.nc").dims(y=2, x=3).add("a", "f4", ["y", "x"], missing_value=1e20).first()

    assert image.fill[0] == float(np.float32(1e20))  # 1e20 itself equals no pixel


@pytest.mark.parametrize(
    ("attributes", "dtype"),
    [
        ({"_Unsigned": "true"}, "uint8"),
        ({"_Unsigned": "false", "valid_range": np.array([0, 255], "i2")}, "int8"),
        ({"valid_range": np.array([0, 254], "i2")}, "uint8"),
        ({"valid_range": np.array([0, -1], "i1")}, "uint8"),
        ({"valid_range": np.array([-100, 100], "i1")}, "int8"),
        ({"valid_max": np.int16(200)}, "uint8"),
        ({}, "int8"),
    ],
    ids=str,
)
def test_bytes_are_unsigned_where_the_file_means_it(tmp_path: Path, attributes: dict[str, Any], dtype: str) -> None:
    file = File(tmp_path / "a.nc", "NETCDF3_CLASSIC").dims(y=2, x=2)

    source, got = file.add("a", "i1", ["y", "x"], np.array([[0, 1], [-1, -128]], "i1"), **attributes).read()

    high = 255 if dtype == "uint8" else -1
    assert source.images[0].dtype == dtype
    assert got[0].ravel().tolist() == [0, 1, high, high - 127]
    assert "_Unsigned" not in source.images[0].attributes


def test_the_fill_value_of_unsigned_bytes_is_unsigned_too(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc", "NETCDF3_CLASSIC").dims(y=2, x=2)

    image = file.add("a", "i1", ["y", "x"], _Unsigned="true", _FillValue=np.int8(-1)).first()

    assert image.fill == (255,)
    assert image.attributes["_FillValue"] == np.uint8(255)


def test_a_valid_range_of_packed_values_is_in_packed_values(tmp_path: Path) -> None:
    packing: dict[str, Any] = {"scale_factor": 0.5, "add_offset": 10.0}
    stored = File(tmp_path / "a.nc").dims(y=2, x=3)
    stored.add("a", "i2", ["y", "x"], valid_range=np.array([0, 100], "i2"), **packing)
    # Of a wider type than the values, it is one of physical values: NetCDF Users Guide, "valid_range".
    physical = File(tmp_path / "b.nc").dims(y=2, x=3)
    physical.add("a", "i2", ["y", "x"], valid_range=np.array([10.0, 60.0]), **packing)

    assert stored.first().valid_range == (0, 100)
    assert physical.first().valid_range == (0, 100)


# -- what is data ---------------------------------------------------------------------------------


def test_bounds_scalars_and_coordinates_are_no_data(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(lat=4, lon=5, bnds=2)
    file.add("lat", "f4", ["lat"], [10, 20, 30, 40], bounds="lat_bnds", units="degrees_north")
    file.add("lon", "f4", ["lon"], [0, 2, 4, 6, 8], units="degrees_east")
    file.add("lat_bnds", "f4", ["lat", "bnds"]).add("height", "f4", [], 2.0)
    file.add("area", "f4", ["lat", "lon"]).add("crs", "i4", [], 0, grid_mapping_name="latitude_longitude")
    file.add("a", "f4", ["lat", "lon"], coordinates="area height", grid_mapping="crs")

    source, _ = file.read()

    assert [image.name for image in source.images] == ["a"]
    found = {each.name: each.dims for each in source.images[0].coordinates}
    assert found == {
        "lat": ("lat",),
        "lon": ("lon",),
        "area": ("lat", "lon"),
        "height": (),
        "crs": (),
        "lat_bnds": ("lat", "bnds"),
    }


def test_latitudes_and_longitudes_along_two_axes_are_coordinates_though_nobody_names_them(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=4, x=5)
    file.add("XLAT", "f4", ["y", "x"], units="degrees_north").add("XLONG", "f4", ["y", "x"], units="degree_east")

    source, _ = file.add("T2", "f4", ["y", "x"], units="K").read()

    assert [image.name for image in source.images] == ["T2"]
    assert [each.name for each in source.images[0].coordinates] == ["XLAT", "XLONG"]


def test_a_file_of_nothing_but_latitudes_shows_these(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=4, x=5).add("lat", "f4", ["y", "x"], units="degrees_north")

    assert file.first().name == "lat"


def test_texts_and_compounds_are_left_out_and_named(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=4, x=5, n=3)
    kind = file.root.createCompoundType(np.dtype([("a", "f4"), ("b", "i4")]), "pair")
    file.root.createVariable("pairs", kind, ("y", "x"))
    file.root.createVariable("words", str, ("n",))
    file.root.createVariable("letters", "S1", ("y", "n"))

    source, _ = file.add("a", "f4", ["y", "x"]).read()

    assert [image.name for image in source.images] == ["a"]
    assert any("/pairs, /words, /letters" in warning for warning in source.warnings)


def test_a_grid_mapping_of_type_text_is_kept(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc", "NETCDF3_CLASSIC").dims(y=4, x=5)
    file.add("rotated_pole", "S1", [], b"", grid_mapping_name="rotated_latitude_longitude")

    image = file.add("a", "f4", ["y", "x"], grid_mapping="rotated_pole").first()

    assert [(each.name, each.dims) for each in image.coordinates] == [("rotated_pole", ())]
    assert image.attributes["grid_mapping"] == "rotated_pole"


def test_a_variable_without_records_yet_is_left_out_and_named(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(time=None, y=4, x=5).add("a", "f4", ["y", "x"])
    file.root.createVariable("later", "f4", ("time", "y", "x"))

    source, _ = file.read()

    assert [image.name for image in source.images] == ["a"]
    assert any("/later has no values yet" in warning for warning in source.warnings)


def test_many_values_along_one_axis_are_a_plot_though_they_have_three(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(time=50, lat=1, lon=1).add("wind", "f4", ["time", "lat", "lon"])

    with pytest.raises(UnsupportedSource, match=r"a plot, not a picture.*\(wind\)"):
        file.read()


def test_most_axes_of_space_then_most_voxels_then_the_first_in_the_file(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(time=50, z=3, y=4, x=5)
    file.add("flat", "f4", ["time", "y", "x"]).add("deep", "f4", ["z", "y", "x"])

    source, _ = file.add("deep_too", "f4", ["z", "y", "x"]).read()

    assert [image.name for image in source.images] == ["deep", "deep_too", "flat"]


def test_another_array_may_be_asked_for(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=4, x=5).add("a", "f4", ["y", "x"]).add("b", "i2", ["y", "x"])

    source, got = file.read(array="b")

    assert [image.name for image in source.images] == ["b", "a"]
    assert got[0].dtype == np.int16
    assert "asked for" in source.reason


def test_names_are_the_last_part_of_the_path_and_longer_where_that_is_not_enough(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=4, x=5)
    for name in ("trop", "strat"):
        group = file.root.createGroup(name)
        file.add("no2", "f4", ["y", "x"], group=group).add(f"{name}_flag", "i1", ["y", "x"], group=group)

    source, _ = file.read()

    assert [image.name for image in source.images] == ["trop_no2", "trop_flag", "strat_no2", "strat_flag"]


def test_a_coordinate_in_another_group_never_takes_the_place_of_the_axis_own(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(time=3, x=4)
    file.add("time", "f8", ["time"], [0, 1, 2], units="hours since 2000-01-01")
    geo, product = file.root.createGroup("geo"), file.root.createGroup("product")
    file.add("time", "f8", ["time", "x"], group=geo, units="seconds since 2000-01-01")

    image = file.add("a", "f4", ["time", "x"], group=product, coordinates="/geo/time").first()

    assert {each.name: each.dims for each in image.coordinates} == {"time": ("time",), "geo_time": ("time", "x")}
    assert image.attributes["coordinates"] == "geo_time"


# -- what the axes are ----------------------------------------------------------------------------


def test_cf_says_which_axis_is_time_and_a_name_only_where_cf_is_silent(tmp_path: Path) -> None:
    by_units = File(tmp_path / "a.nc").dims(tau=3, y=4, x=5)
    by_units.add("tau", "f8", ["tau"], [0, 1, 2], units="days since 2000-01-01").add("a", "f4", ["tau", "y", "x"])
    by_axis = File(tmp_path / "b.nc").dims(step=3, y=4, x=5)
    by_axis.add("step", "f8", ["step"], [0, 1, 2], axis="T").add("a", "f4", ["step", "y", "x"])
    by_name = File(tmp_path / "c.nc").dims(month=3, y=4, x=5).add("a", "f4", ["month", "y", "x"])
    not_at_all = File(tmp_path / "d.nc").dims(time=3, y=4, x=5)
    not_at_all.add("time", "f8", ["time"], [0, 1, 2], axis="Z").add("a", "f4", ["time", "y", "x"])

    kinds = [file.first().axes[0].kind for file in (by_units, by_axis, by_name, not_at_all)]

    assert kinds == [AxisKind.TIME, AxisKind.TIME, AxisKind.TIME, AxisKind.SPACE]


def test_time_that_comes_last_in_the_file_is_written_first(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=4, x=5, time=3)

    source, got = file.add("a", "f4", ["y", "x", "time"]).read()

    assert roles(source.images[0]) == [("time", "time"), ("y", "space"), ("x", "space")]
    assert source.images[0].transposed == (2, 0, 1)
    assert np.array_equal(got[0], np.arange(60).reshape(4, 5, 3).transpose(2, 0, 1))


def test_members_of_an_ensemble_and_bands_are_no_space(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(time=2, member=3, y=4, x=5).add("a", "f4", ["time", "member", "y", "x"])
    bands = File(tmp_path / "b.nc").dims(band=3, y=4, x=5).add("a", "f4", ["band", "y", "x"])

    assert roles(file.first()) == [("time", "time"), ("member", "custom"), ("y", "space"), ("x", "space")]
    assert roles(bands.first()) == [("band", "custom"), ("y", "space"), ("x", "space")]


def test_a_fourth_axis_that_is_no_time_is_custom(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(a=2, b=3, y=4, x=5).add("v", "f4", ["a", "b", "y", "x"])

    assert roles(file.first()) == [("a", "custom"), ("b", "space"), ("y", "space"), ("x", "space")]


def test_time_against_depth_is_a_picture(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(time=30, depth=40).add("t", "f4", ["time", "depth"])

    assert roles(file.first()) == [("time", "space"), ("depth", "space")]


def test_axes_of_length_1_take_nobodys_place(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(time=30, lat=1, lon=40).add("t", "f4", ["time", "lat", "lon"])

    source, got = file.read()

    assert roles(source.images[0])[-2:] == [("time", "space"), ("lon", "space")]
    assert got[0].size == 1200


def test_several_axes_of_length_1_are_kept_too(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(t=30, z=1, y=1, x=40).add("v", "f4", ["t", "z", "y", "x"])

    assert roles(file.first()) == [("y", "custom"), ("z", "space"), ("t", "space"), ("x", "space")]


def test_further_axes_become_a_series_of_images_and_it_is_said(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(run=2, member=3, time=2, z=2, y=4, x=5)
    file.add("run", "i4", ["run"], [7, 9])

    source, got = file.add("v", "f4", ["run", "member", "time", "z", "y", "x"]).read()

    values = np.arange(480).reshape(2, 3, 2, 2, 4, 5)
    assert [roles(image)[0] for image in source.images] == [("time", "time")] * 2
    assert [image.name for image in source.images] == ["v", "v_2"]
    assert [image.source_name for image in source.images] == ["/v, run 1", "/v, run 2"]
    assert all(np.array_equal(got[n], values[n].transpose(1, 0, 2, 3, 4)) for n in range(2))
    runs = [next(each for each in image.coordinates if each.name == "run") for image in source.images]
    assert [(each.dims, each.values.item()) for each in runs] == [((), 7), ((), 9)]
    assert any("one image for each run" in warning for warning in source.warnings)


def test_a_dimension_that_occurs_twice_has_two_names(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(x=4).add("covariance", "f4", ["x", "x"])

    assert [axis.name for axis in file.first().axes] == ["x", "x_2"]


# -- spacing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "unit"),
    [
        ("m", "meter"),
        ("km", "kilometer"),
        ("um", "micrometer"),
        ("metres", "meter"),
        ("degrees_east", None),
        ("hPa", None),
    ],
)
def test_units_are_omes_where_they_are_lengths(tmp_path: Path, units: str, unit: str | None) -> None:
    file = File(tmp_path / "a.nc").dims(y=4, x=5).add("x", "f8", ["x"], np.arange(5) * 2.0 + 10, units=units)

    axis = file.add("a", "f4", ["y", "x"]).first().axes[1]

    assert (axis.spacing, axis.origin, axis.unit) == (2.0, 10.0, unit)


def test_a_coordinate_that_is_not_regular_gives_no_spacing(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=4, x=5)
    file.add("x", "f8", ["x"], [0, 1, 2, 4, 8], units="m").add("y", "f8", ["y"], [0, 1, np.nan, 3], units="m")

    assert [axis.spacing for axis in file.add("a", "f4", ["y", "x"]).first().axes] == [None, None]


def test_single_precision_does_not_make_a_grid_irregular(tmp_path: Path) -> None:
    grid = (np.arange(480) * 0.001 + 350).astype("f4")  # neighbours differ by 0.00098 and 0.00101
    file = File(tmp_path / "a.nc").dims(y=4, x=480).add("x", "f4", ["x"], grid, units="degrees_east")

    assert file.add("a", "f4", ["y", "x"]).first().axes[1].spacing == pytest.approx(0.001, rel=1e-3)


def test_time_steps_are_in_omes_unit_and_the_calendar_is_kept(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(time=3, y=4, x=5)
    said: dict[str, Any] = {"units": "hours since 1900-01-01 00:00:00", "calendar": "noleap"}
    file.add("time", "i4", ["time"], [6, 12, 18], **said)

    image = file.add("a", "f4", ["time", "y", "x"]).first()

    time = next(each for each in image.coordinates if each.name == "time")
    assert (image.axes[0].spacing, image.axes[0].unit) == (6.0, "hour")
    assert {key: time.attributes[key] for key in said} == said


def test_the_spacing_of_a_packed_coordinate_is_that_of_its_physical_values(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=4, x=5)
    file.add("x", "i2", ["x"], [0, 1, 2, 3, 4], scale_factor=30.0, add_offset=100.0, units="m")

    axis = file.add("a", "f4", ["y", "x"]).first().axes[1]

    assert (axis.spacing, axis.origin) == (30.0, 100.0)


# -- how levels are made --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "attributes", "reduction"),
    [
        ("i1", {"flag_values": np.array([0, 1, 2], "i1"), "flag_meanings": "land sea ice"}, Reduction.MODE),
        ("u1", {"flag_masks": np.array([1, 2, 4], "u1"), "flag_meanings": "a b c"}, Reduction.OR),
        ("f4", {"standard_name": "wind_from_direction", "units": "degree"}, Reduction.NEAREST),
        ("f8", {"units": "seconds since 2000-01-01"}, Reduction.NEAREST),
        ("i4", {"long_name": "basin id"}, Reduction.NEAREST),
        ("u1", {"standard_name": "land_binary_mask"}, Reduction.MODE),
        ("f4", {"standard_name": "air_temperature", "units": "K"}, None),
        ("f4", {"long_name": "phase speed", "units": "m s-1"}, None),
        ("i4", {"long_name": "counts"}, None),
    ],
    ids=str,
)
def test_a_mean_is_taken_only_where_it_means_something(
    tmp_path: Path, dtype: str, attributes: dict[str, Any], reduction: Reduction | None
) -> None:
    file = File(tmp_path / "a.nc").dims(y=4, x=5)

    assert file.add("v", dtype, ["y", "x"], **attributes).first().reduction is reduction


def test_an_enumeration_is_categories_with_their_names(tmp_path: Path) -> None:
    file = File(tmp_path / "a.nc").dims(y=2, x=2)
    kind = file.root.createEnumType(np.uint8, "kind", {"clear sky": 0, "cloud": 3})
    variable = file.root.createVariable("cover", kind, ("y", "x"))
    variable[:] = np.array([[0, 3], [3, 0]], "u1")

    source, got = file.read()

    image = source.images[0]
    assert got[0].tolist() == [[0, 3], [3, 0]]
    assert image.reduction is Reduction.MODE
    assert image.attributes["flag_values"] == [0, 3]
    assert image.attributes["flag_meanings"] == "clear_sky cloud"


# -- all of it ------------------------------------------------------------------------------------


def test_xarray_sees_in_the_attributes_what_it_sees_in_the_file(tmp_path: Path) -> None:
    packing: dict[str, Any] = {
        "scale_factor": 0.1,
        "add_offset": -5.0,
        "_FillValue": np.int8(-1),
        "_Unsigned": "true",
    }
    file = File(tmp_path / "a.nc").dims(y=2, x=3)
    source, got = file.add("a", "i1", ["y", "x"], np.array([[0, 1, -1], [-2, 5, 100]], "i1"), **packing).read()

    with xarray.open_dataset(tmp_path / "a.nc", engine="netcdf4") as theirs:
        ours = xarray.decode_cf(xarray.Dataset({"a": (("y", "x"), got[0], source.images[0].attributes)}))

        assert np.allclose(ours["a"].values, theirs["a"].values, equal_nan=True)
