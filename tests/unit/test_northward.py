"""Which way up a map is stored."""

from __future__ import annotations

import numpy as np
import pytest

from scientistcloud.omezarr.coordinates import is_northward
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Coordinate, Image

RISING = np.array([-10.0, 0.0, 10.0])
CURVED = np.array([[-70.0, np.nan], [0.0, 1.0], [1e20, 80.0]])  # as NEMO has it: a fill value at the fold
MAP = Image(
    name="sst",
    source_name="/sst",
    axes=(Axis(name="j", kind=AxisKind.SPACE, length=3), Axis(name="i", kind=AxisKind.SPACE, length=2)),
    dtype=np.dtype("f4"),
)


@pytest.mark.parametrize(
    ("dims", "values", "attributes", "expected"),
    [
        (("j",), RISING, {"standard_name": "latitude"}, True),
        (("j",), RISING[::-1], {"standard_name": "latitude"}, False),
        (("j",), RISING, {"units": "degrees_north"}, True),
        (("j",), RISING, {"standard_name": "projection_y_coordinate", "units": "m"}, True),
        (("j",), RISING, {"standard_name": "latitude", "scale_factor": -1.0}, False),
        (("j",), RISING, {"units": "m"}, False),
        (("i",), RISING[:2], {"standard_name": "latitude"}, False),
        (("j", "i"), CURVED, {"standard_name": "latitude", "_FillValue": 1e20}, True),
        (("j", "i"), CURVED[::-1], {"standard_name": "latitude", "_FillValue": 1e20}, False),
        (("j", "i"), np.full((3, 2), np.nan), {"standard_name": "latitude"}, False),
    ],
)
def test_rows_go_north_where_their_latitude_rises(
    dims: tuple[str, ...], values: Array, attributes: dict[str, object], expected: bool
) -> None:
    coordinate = Coordinate(name="lat", dims=dims, values=values, attributes=attributes)

    assert is_northward(MAP, {"lat": coordinate}) is expected


def test_a_picture_without_coordinates_stays_as_it_is() -> None:
    assert is_northward(MAP, {}) is False
