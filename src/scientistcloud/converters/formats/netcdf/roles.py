"""What the dimensions of a variable are by CF: time, space, or something else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from scientistcloud.converters.formats.netcdf.variables import Dimension, Variable
from scientistcloud.omezarr.image import AxisKind

_TIME_NAMES = {
    "time",
    "t",
    "date",
    "datetime",
    "day",
    "month",
    "year",
    "hour",
    "season",
    "week",
    "valid_time",
    "tstep",
}
_OTHER_NAMES = re.compile(
    r"(ensemble|member|realization|realisation|number|band|channel|spectral|wavelength|wavenumber|frequency|"
    r"polarization|polarisation|camera|species|quantile|percentile|scenario|model|experiment)s?(_?\d+)?$"
)
_OTHER_STANDARD = ("realization", "radiation_wavelength", "radiation_frequency", "sensor_band", "area_type")


def since(units: str) -> bool:
    """Whether CF units are those of a time ("hours since 1900-01-01")."""
    return " since " in f" {units} "


def is_time(name: str, coordinate: Variable | None) -> bool:
    """CF decides (units, axis, standard name), the dimension's name only where CF is silent."""
    if coordinate is not None:
        if since(coordinate.text("units")) or coordinate.text("axis").upper() == "T":
            return True
        if standard := coordinate.text("standard_name"):
            return standard in ("time", "forecast_reference_time", "forecast_period")
        if coordinate.text("axis"):
            return False
    return name.lower() in _TIME_NAMES


def is_other(name: str, coordinate: Variable | None) -> bool:
    """An ensemble's member, a band: neither time nor space."""
    if coordinate is not None:
        if coordinate.text("axis") or coordinate.text("positive"):
            return False
        if coordinate.text("standard_name").startswith(_OTHER_STANDARD):
            return True
    return bool(_OTHER_NAMES.match(name.lower()))


@dataclass(frozen=True, slots=True)
class Meaning:
    """The axes of the images that a variable becomes."""

    #: Dimension of the variable and its kind, in the order in which they are written.
    axes: tuple[tuple[int, AxisKind], ...]
    #: Dimensions that become a series of images.
    split: tuple[int, ...]
    #: Dimensions of length 1 for which there is no axis.
    single: tuple[int, ...]

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(dim for dim, _ in self.axes)

    def transposed(self) -> tuple[int, ...] | None:
        ranks = {dim: rank for rank, dim in enumerate(sorted(self.order))}
        moved = tuple(ranks[dim] for dim in self.order)
        return None if moved == tuple(range(len(moved))) else moved

    def views(self, dims: Sequence[Dimension]) -> Iterator[dict[int, int]]:
        """The fixed indices of each image of the series."""
        for index in product(*(range(dims[dim].length) for dim in self.split)):
            yield dict(zip(self.split, index, strict=True)) | dict.fromkeys(self.single, 0)


def meaning(variable: Variable, coordinates: dict[str, Variable]) -> Meaning:
    """The last two or three dimensions that are neither time nor something else are space, under their own names.

    One more may be time and one custom; further ones become a series of images. A variable of two dimensions is
    a picture whatever they are (time against depth).
    """
    dims = variable.dims
    long = [index for index, dim in enumerate(dims) if dim.length > 1]
    names = [(dim.name, coordinates.get(dim.path)) for dim in dims]
    times = [index for index, (name, found) in enumerate(names) if is_time(name, found)]
    others = [index for index, (name, found) in enumerate(names) if index not in times and is_other(name, found)]
    rest = [index for index in range(len(dims)) if index not in times and index not in others]
    space = rest[-3:]
    if sum(index in long for index in space) < min(2, len(long)):  # too few of them to be drawn: whatever is long
        space = long[-2:]
    time = _longest([index for index in times if index not in space], dims)
    custom = _longest([index for index in range(len(dims)) if index not in (*space, *time)], dims)
    axes = [(index, AxisKind.TIME) for index in time]
    axes += [(index, AxisKind.CUSTOM) for index in custom]
    axes += [(index, AxisKind.SPACE) for index in space]
    left = set(range(len(dims))) - {*space, *custom, *time}
    return Meaning(
        axes=tuple(axes),
        split=tuple(index for index in sorted(left) if index in long),
        single=tuple(index for index in sorted(left) if index not in long),
    )


def _longest(indices: Sequence[int], dims: Sequence[Dimension]) -> list[int]:
    """The last of those that are longer than 1, else the last; an axis of length 1 takes nobody's place."""
    return ([index for index in indices if dims[index].length > 1] or list(indices))[-1:]
