"""Variables as `Image`s: axes, spacing, coordinates, attributes, how levels are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scientistcloud.converters.formats.netcdf.coordinates import Coordinates
from scientistcloud.converters.formats.netcdf.roles import meaning, since
from scientistcloud.converters.formats.netcdf.variables import Variable
from scientistcloud.converters.units import ome_length, ome_time
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Coordinate, Image

ReadValues = Callable[[Variable, tuple[slice, ...]], Array]
# Coordinates are held in memory; larger ones (curvilinear grids of a whole mission) become images instead.
_COORDINATE_BYTES = 64 << 20
_DEFAULT_FILL = 9.969209968386869e36  # NC_FILL_FLOAT and NC_FILL_DOUBLE: never written


@dataclass(frozen=True, slots=True)
class Described:
    """An image, and which part of which variable it is."""

    image: Image
    variable: Variable
    order: tuple[int, ...]
    fixed: dict[int, int]
    rank: tuple[int, int]


def describe(
    variables: Sequence[Variable], read: ReadValues, *, file: str, several: bool
) -> tuple[list[Described], list[str], list[str]]:
    """Images in the order of the file, the paths of variables that are plots, and warnings."""
    attendants = Coordinates(variables)
    kept: dict[str, Array] = {}
    found: list[Described] = []
    plots: list[str] = []
    said: list[str] = []
    data = attendants.data()
    for variable in data:
        if len(variable.dims) < 2:
            plots.append(variable.path)
        elif not all(variable.shape):
            said.append(f"{variable.path} is empty {variable.shape} and was left out")
        else:
            found += _images(variable, attendants, read, kept, prefix=f"{file}:" if several else "")
    return found, plots, said


def _images(
    variable: Variable, attendants: Coordinates, read: ReadValues, kept: dict[str, Array], *, prefix: str
) -> list[Described]:
    roles = meaning(variable, attendants.of_dimension)
    axes = []
    for dim, kind in roles.axes:
        dimension = variable.dims[dim]
        coordinate = attendants.of_dimension.get(dimension.path)
        axes.append(_axis(dimension.name, kind, dimension.length, coordinate, _values(coordinate, read, kept)))
    attributes, fill = _attributes(variable)
    made = []
    for fixed in roles.views(variable.dims):
        where = "".join(f", {variable.dims[dim].name} {at + 1}" for dim, at in fixed.items())
        image = Image(
            name=variable.name,
            source_name=f"{prefix}{variable.path}{where}",
            axes=tuple(axes),
            dtype=variable.dtype,
            attributes=attributes,
            fill=fill,
            coordinates=tuple(_coordinates(variable, attendants, fixed, read, kept)),
            transposed=roles.transposed(),
            source_chunk=tuple(variable.chunk[dim] for dim in roles.order) if variable.chunk else None,
        )
        rank = sum(axis.kind is AxisKind.SPACE for axis in axes), math.prod(image.shape)
        made.append(Described(image, variable, roles.order, fixed, rank))
    return made


def _axis(name: str, kind: AxisKind, length: int, coordinate: Variable | None, values: Array | None) -> Axis:
    if coordinate is None or values is None:
        return Axis(name=name, kind=kind, length=length)
    units = coordinate.text("units")
    unit = ome_time(units) if kind is AxisKind.TIME or since(units) else ome_length(units)
    steps = np.diff(values.astype(np.float64))
    if not len(steps) or not np.isfinite(steps).all():
        return Axis(name=name, kind=kind, length=length)
    step = float(steps.mean())
    # Single precision leaves a grid of 0.75° uneven in the fifth digit.
    if step == 0 or not np.allclose(steps, step, rtol=1e-3, atol=0):
        return Axis(name=name, kind=kind, length=length)
    origin = float(values[0]) if step > 0 else 0.0
    return Axis(name=name, kind=kind, length=length, spacing=abs(step), origin=origin, unit=unit)


def _values(variable: Variable | None, read: ReadValues, kept: dict[str, Array]) -> Array | None:
    if variable is None:
        return None
    if variable.path not in kept:
        kept[variable.path] = read(variable, tuple(slice(0, length) for length in variable.shape))
    return kept[variable.path]


def _coordinates(
    variable: Variable, attendants: Coordinates, fixed: dict[int, int], read: ReadValues, kept: dict[str, Array]
) -> list[Coordinate]:
    made = []
    for each in attendants.of(variable):
        if math.prod(each.shape) * each.dtype.itemsize > _COORDINATE_BYTES:
            continue
        values = _values(each, read, kept)
        assert values is not None
        made.append(
            Coordinate(
                name=each.name,
                dims=tuple(dim.name for dim in each.dims),
                values=values,
                attributes=_attributes(each)[0],
            )
        )
    return made


def _attributes(variable: Variable) -> tuple[dict[str, Any], tuple[float | int, ...]]:
    """Attributes in the terms of the dtype as it is meant, and the values that mean "no data"."""
    attributes: dict[str, Any] = {}
    fill: list[float | int] = []
    for key, value in variable.attributes.items():
        if key == "_Unsigned":
            continue
        attributes[key] = value.tolist() if isinstance(value, np.ndarray) else value
    return attributes, tuple(fill)
