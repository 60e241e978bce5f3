"""Coordinates of coarser levels."""

from __future__ import annotations

from typing import Any

import numpy as np

from scientistcloud.omezarr.coordinates import at_level
from scientistcloud.omezarr.image import Array, Coordinate


def at(factors: dict[str, int], *coordinates: Coordinate) -> dict[str, Coordinate]:
    return {each.name: each for each in at_level({each.name: each for each in coordinates}, factors)}


def coordinate(name: str, dims: tuple[str, ...], values: Any, **attributes: Any) -> Coordinate:
    return Coordinate(name=name, dims=dims, values=np.asarray(values), attributes=attributes)


def test_a_coordinate_of_a_halved_axis_holds_the_centres_of_its_boxes() -> None:
    y = coordinate("y", ("y",), np.array([90.0, 89.0, 88.0, 87.0, 86.0], "f4"), units="degrees_north")

    half, quarter = at({"y": 2}, y)["y"], at({"y": 4}, y)["y"]

    np.testing.assert_array_equal(half.values, np.array([89.5, 87.5, 86.0], "f4"))
    np.testing.assert_array_equal(quarter.values, np.array([88.5, 86.0], "f4"))
    assert half.values.dtype == np.float32
    assert half.attributes == {"units": "degrees_north"}


def test_integers_that_are_no_longer_whole_become_doubles() -> None:
    half = at({"x": 2}, coordinate("x", ("x",), np.arange(4, dtype="i4")))["x"]

    np.testing.assert_array_equal(half.values, [0.5, 2.5])


def test_packed_coordinates_become_doubles_in_their_unit() -> None:
    packed = coordinate(
        "lat",
        ("y", "x"),
        np.array([[0, 2], [4, -1]], "i2"),
        scale_factor=0.5,
        add_offset=10.0,
        _FillValue=-1,
        units="m",
    )

    half = at({"y": 2, "x": 2}, packed)["lat"]

    np.testing.assert_array_equal(half.values, [[11.0]])  # of 10, 11 and 12
    assert half.attributes == {"units": "m"}


def test_longitudes_are_averaged_across_their_seam() -> None:
    for east, across in ((360.0, 359.5), (0.0, -0.5)):  # 0 to 360, −180 to 180
        del across
        values = np.array([[178.0, 179.0, 180.0, -179.0]]) if not east else np.array([[358.0, 359.0, 359.5, 0.5]])
        half = at({"x": 2}, coordinate("lon", ("y", "x"), values, units="degrees_east"))["lon"]

        wanted = [178.5, -179.5] if not east else [358.5, 0.0]
        difference = (half.values[0] - wanted + 180) % 360 - 180
        np.testing.assert_allclose(difference, 0, atol=1e-9)
        assert half.values.min() >= values.min() - 1e-6


def test_missing_positions_stay_missing() -> None:
    lat = coordinate("lat", ("y",), np.array([1.0, -1e30, -1e30, -1e30], "f4"), _FillValue=np.float32(-1e30))

    half = at({"y": 2}, lat)["lat"]

    np.testing.assert_array_equal(half.values, np.array([1.0, -1e30], "f4"))


def test_bounds_become_the_outermost_edges() -> None:
    time = coordinate("y", ("y",), [0.5, 1.5, 2.5], bounds="y_bnds")
    bounds = coordinate("y_bnds", ("y", "bnds"), [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]])

    half = at({"y": 2}, time, bounds)

    np.testing.assert_array_equal(half["y_bnds"].values, [[0.0, 2.0], [2.0, 3.0]])
    assert half["y"].attributes == {"bounds": "y_bnds"}


def test_corners_of_cells_are_left_out_and_no_longer_named() -> None:
    corners: Array = np.zeros((4, 4, 4))
    lat = coordinate("lat", ("y", "x"), np.zeros((4, 4)), bounds="corners")

    half = at({"y": 2, "x": 2}, lat, coordinate("corners", ("y", "x", "nv"), corners))

    assert set(half) == {"lat"}
    assert half["lat"].attributes == {}


def test_what_lies_along_no_halved_axis_stays_as_it_is() -> None:
    crs = coordinate("crs", (), np.int32(0), grid_mapping_name="latitude_longitude")
    level = coordinate("level", ("level",), np.array([200, 500, 850], "i4"))

    half = at({"y": 2, "level": 1}, crs, level)

    assert half["crs"] is crs
    assert half["level"] is level
