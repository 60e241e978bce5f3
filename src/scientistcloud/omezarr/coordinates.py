"""The coordinates of a coarser level: where the centres of its pixels lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scientistcloud.omezarr.image import Array, Coordinate, Image, Reduction
from scientistcloud.omezarr.pyramid import downsample, representable

_PACKING = (
    "scale_factor", "add_offset", "_Unsigned", "_FillValue", "missing_value", "valid_range",
    "valid_min", "valid_max",
)  # fmt: skip


def at_level(known: Mapping[str, Coordinate], factors: Mapping[str, int]) -> list[Coordinate]:
    """The coordinates of a level whose pixels hold `factors` pixels of level 0, by dimension.

    A coordinate becomes the mean over each box (of longitudes across their seam too), bounds become its
    outermost edges. Integers and packed values along a halved axis become float64 in their own unit. What cannot
    be told of a box (flags, texts) is left out.
    """
    bounds = {str(each.attributes["bounds"]) for each in known.values() if "bounds" in each.attributes}
    made = {
        name: _bounds_of(each, factors) if name in bounds else _centres_of(each, factors)
        for name, each in known.items()
    }
    return [_without_lost_bounds(each, made) for each in made.values() if each is not None]


def is_northward(image: Image, known: Mapping[str, Coordinate]) -> bool:
    """Whether rows go from south to north, so that a map has to be turned to have the north on top.

    The same for a picture whose rows go from the bottom up (`Image.upward`). A map tells it by the latitude or
    northing along its rows, on a curvilinear grid by the mean of its first and last row. The stored order is never
    changed.
    """
    if len(image.axes) < 2 or image.upward:
        return image.upward
    rows, columns = (axis.name for axis in image.axes[-2:])
    for dims in ((rows,), (rows, columns)):
        for each in known.values():
            if (
                each.dims == dims
                and each.values.dtype.kind in "iuf"
                and len(each.values) > 1
                and _is_northing(each)
            ):
                values = _physical(each)
                first, last = (row[np.isfinite(row)] for row in (np.ravel(values[0]), np.ravel(values[-1])))
                if first.size and last.size:
                    return bool(last.mean() > first.mean())
    return False


def _is_northing(each: Coordinate) -> bool:
    names = ("latitude", "projection_y_coordinate", "grid_latitude")
    units = ("degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen")
    return each.attributes.get("standard_name") in names or str(each.attributes.get("units", "")).lower() in units


def _without_lost_bounds(each: Coordinate, made: Mapping[str, Coordinate | None]) -> Coordinate:
    named = each.attributes.get("bounds")
    if named is None or made.get(str(named)) is not None:
        return each
    attributes = {key: value for key, value in each.attributes.items() if key != "bounds"}
    return Coordinate(name=each.name, dims=each.dims, values=each.values, attributes=attributes)


def _halved(each: Coordinate, factors: Mapping[str, int]) -> bool:
    return any(factors.get(name, 1) > 1 for name in each.dims)


def _bounds_of(each: Coordinate, factors: Mapping[str, int]) -> Coordinate | None:
    if not _halved(each, factors):
        return each
    if each.values.ndim != 2 or each.values.shape[1] != 2:
        return None  # corners of cells of a curvilinear grid
    factor = factors[each.dims[0]]
    first = each.values[::factor, 0]
    last = each.values[np.minimum(np.arange(len(first)) * factor + factor, len(each.values)) - 1, 1]
    return Coordinate(
        name=each.name, dims=each.dims, values=np.stack([first, last], axis=1), attributes=each.attributes
    )


def _centres_of(each: Coordinate, factors: Mapping[str, int]) -> Coordinate | None:
    if not _halved(each, factors):
        return each
    dtype = each.values.dtype
    if dtype.kind not in "iuf" or "flag_values" in each.attributes or "flag_masks" in each.attributes:
        return None
    stays = dtype.kind == "f" and not {"scale_factor", "add_offset"} & each.attributes.keys()
    values = _boxed(_physical(each), each.dims, factors, circular=_is_longitude(each))
    if not stays:
        attributes = {key: value for key, value in each.attributes.items() if key not in _PACKING}
        return Coordinate(name=each.name, dims=each.dims, values=values, attributes=attributes)
    fill = each.attributes.get("_FillValue")
    if fill is not None:
        values = np.where(np.isnan(values), fill, values)
    return Coordinate(name=each.name, dims=each.dims, values=values.astype(dtype), attributes=each.attributes)


def _physical(each: Coordinate) -> Array:
    """The values in their unit as float64, NaN where there are none."""
    values = each.values
    if values.dtype.kind == "i" and str(each.attributes.get("_Unsigned", "")).lower() == "true":
        values = values.view(values.dtype.str.replace("i", "u"))
    named = [each.attributes[key] for key in ("_FillValue", "missing_value") if key in each.attributes]
    marks = representable([float(mark) for value in named for mark in np.ravel(value)], values.dtype)
    physical = values.astype(np.float64)
    for mark in marks:
        physical[values == mark] = np.nan
    return physical * float(each.attributes.get("scale_factor", 1)) + float(each.attributes.get("add_offset", 0))


def _is_longitude(each: Coordinate) -> bool:
    return each.attributes.get("standard_name") == "longitude" or str(each.attributes.get("units", "")).lower() in (
        "degrees_east", "degree_east", "degrees_e", "degree_e",
    )  # fmt: skip


def _boxed(values: Array, dims: Sequence[str], factors: Mapping[str, int], *, circular: bool) -> Array:
    """The mean over boxes; `circular`: of angles in degrees, where a box reaches over the seam."""
    mean = _reduced(values, dims, factors, Reduction.MEAN)
    if not circular:
        return mean
    width = _reduced(values, dims, factors, Reduction.MAXIMUM) + _reduced(-values, dims, factors, Reduction.MAXIMUM)
    if not (width > 180).any():
        return mean
    angle = np.rad2deg(np.angle(_reduced(np.exp(1j * np.deg2rad(values)), dims, factors, Reduction.MEAN)))
    angle = np.where(angle < np.nanmin(values) - 1e-9, angle + 360, angle)  # onto the branch of the source
    return np.where(width > 180, angle, mean)


def _reduced(values: Array, dims: Sequence[str], factors: Mapping[str, int], reduction: Reduction) -> Array:
    remaining = [factors.get(name, 1) for name in dims]
    while max(remaining) > 1:
        steps = [2 if factor > 1 else 1 for factor in remaining]
        values = downsample(values, steps, reduction=reduction)
        remaining = [factor // 2 if factor > 1 else 1 for factor in remaining]
    return values
