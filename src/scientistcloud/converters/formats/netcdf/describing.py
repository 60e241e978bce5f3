"""Variables as `Image`s: axes, spacing, coordinates, how levels are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scientistcloud.converters.choice import unique
from scientistcloud.converters.formats.netcdf.attributes import attributes, reduction, unpacked
from scientistcloud.converters.formats.netcdf.coordinates import REFERENCES, Coordinates
from scientistcloud.converters.formats.netcdf.roles import meaning, since
from scientistcloud.converters.formats.netcdf.variables import Variable
from scientistcloud.converters.roles import Meaning
from scientistcloud.converters.spacing import even
from scientistcloud.converters.units import ome_length, ome_time
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Coordinate, Image

ReadValues = Callable[[Variable, tuple[slice, ...]], Array]
# Coordinates are held in memory; larger ones (the curvilinear grid of a whole mission) become images.
_COORDINATE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Described:
    """An image, and which part of which variable it is."""

    image: Image
    variable: Variable
    #: Dimension of the variable for each axis of the image.
    order: tuple[int, ...]
    #: Index along each other dimension.
    fixed: dict[int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """What a file holds."""

    #: In the order of the file.
    images: list[Described]
    #: Paths of the variables of one dimension or none.
    plots: list[str]
    warnings: list[str]


class Describer:
    """Makes images of one file's variables; reads coordinates only."""

    def __init__(self, variables: Sequence[Variable], read: ReadValues) -> None:
        self._variables = variables
        self._coordinates = Coordinates(variables)
        self._read = read
        self._values: dict[str, Array] = {}

    def describe(self) -> Found:
        found = Found([], [], [])
        misfits: list[str] = []
        data = self._coordinates.data()
        large = [each for each in self._variables if each not in data and len(each.dims) > 1 and _large(each)]
        for variable in [*data, *large]:
            if len(variable.dims) < 2:
                found.plots.append(variable.path)
            elif not math.prod(variable.shape):
                found.warnings.append(f"{variable.path} has no values yet {variable.shape} and was left out")
            elif sum(length > 1 for length in variable.shape) < 2:
                found.plots.append(variable.path)
            else:
                found.images.extend(self._images(variable, found.warnings))
                misfits += [f"{variable.path} ({each})" for each in attributes(variable).impossible]
        if misfits:
            found.warnings.append(
                f"fill values that the type of the values cannot hold were left out: {', '.join(misfits)}"
            )
        if large:
            names = ", ".join(each.path for each in large)
            found.warnings.append(f"coordinates of more than 64 MiB are further images: {names}")
        return found

    def _images(self, variable: Variable, warnings: list[str]) -> list[Described]:
        roles = meaning(variable, self._coordinates.of_dimension)
        names = unique([variable.dims[dim].name for dim, _ in roles.axes])  # a matrix of correlations has x twice
        axes = tuple(
            replace(self._axis(variable, dim, kind), name=name)
            for (dim, kind), name in zip(roles.axes, names, strict=True)
        )
        said = attributes(variable)
        if roles.split:
            split = " and ".join(variable.dims[dim].name for dim in roles.split)
            warnings.append(f"{variable.path} has more axes than an image may have: one image for each {split}")
        made = []
        for fixed in roles.views(variable.shape):
            where = "".join(f", {variable.dims[dim].name} {fixed[dim] + 1}" for dim in roles.split)
            coordinates, stored_names = self._attendants(variable, fixed)
            image = Image(
                name=variable.name,
                source_name=f"{variable.path}{where}",
                axes=axes,
                dtype=variable.dtype,
                attributes=self._renamed(said.written, variable, stored_names),
                fill=said.fill,
                reduction=reduction(variable),
                coordinates=tuple(coordinates),
                valid_range=said.valid_range,
                transposed=roles.transposed(),
                source_chunk=_chunk(variable, roles),
            )
            made.append(Described(image, variable, roles.order, fixed))
        return made

    def _axis(self, variable: Variable, dim: int, kind: AxisKind) -> Axis:
        dimension = variable.dims[dim]
        plain = Axis(name=dimension.name, kind=kind, length=dimension.length)
        coordinate = self._coordinates.of_dimension.get(dimension.path)
        if coordinate is None or dimension.length < 2:
            return plain
        found = even(unpacked(coordinate, self._values_of(coordinate)), coordinate.dtype)
        if found is None:
            return plain
        units = coordinate.text("units")
        unit = ome_time(units) if kind is AxisKind.TIME or since(units) else ome_length(units)
        return replace(plain, spacing=found[0], origin=found[1], unit=unit)

    def _attendants(self, variable: Variable, fixed: dict[int, int]) -> tuple[list[Coordinate], dict[str, str]]:
        """Coordinates of an image, and the name in the store of each, by path."""
        split = {variable.dims[dim].path: at for dim, at in fixed.items()}
        found = [each for each in self._coordinates.of(variable) if not _large(each)]
        of_dims = {self._coordinates.of_dimension.get(dim.path): dim.name for dim in variable.dims}
        names = {each.path: of_dims[each] for each in found if each in of_dims}
        others = [each.path for each in found if each.path not in names]
        names |= dict(zip(others, unique(others, taken=[dim.name for dim in variable.dims]), strict=True))
        made = [
            Coordinate(
                name=names[each.path],
                dims=tuple(dim.name for dim in each.dims if dim.path not in split),
                values=np.asarray(
                    self._values_of(each)[tuple(split.get(dim.path, slice(None)) for dim in each.dims)]
                ),
                attributes=self._renamed(attributes(each).written, each, names),
            )
            for each in found
        ]
        return made, names

    def _renamed(self, written: dict[str, Any], variable: Variable, names: Mapping[str, str]) -> dict[str, Any]:
        """Attributes that name other variables, by the names that these have in the store."""
        out = dict(written)
        for key in REFERENCES:
            if text := variable.text(key):
                words = [self._coordinates.resolve(word.rstrip(":"), variable) for word in text.split()]
                kept = [names[each.path] for each in words if each is not None and each.path in names]
                out[key] = " ".join(dict.fromkeys(kept))
                if not kept:
                    del out[key]
        return out

    def _values_of(self, variable: Variable) -> Array:
        if variable.handle is None:
            return np.zeros((), variable.dtype)
        if variable.path not in self._values:
            self._values[variable.path] = self._read(variable, tuple(slice(0, n) for n in variable.shape))
        return self._values[variable.path]


def named(images: Sequence[Image], paths: Sequence[str]) -> list[Image]:
    """The images under names that are unique among them and their coordinates."""
    taken = {coordinate.name for image in images for coordinate in image.coordinates}
    return [replace(image, name=name) for image, name in zip(images, unique(paths, taken=taken), strict=True)]


def _chunk(variable: Variable, roles: Meaning) -> tuple[int, ...] | None:
    return tuple(variable.chunk[dim] for dim in roles.order) if variable.chunk else None


def _large(variable: Variable) -> bool:
    size: Any = math.prod(variable.shape) * variable.dtype.itemsize
    return bool(size > _COORDINATE_BYTES)
