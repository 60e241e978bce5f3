"""Which images stand together in one multiscale group, with which coordinates, chunks and levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scientistcloud.errors import UnsupportedSource
from scientistcloud.omezarr.grid import Box, chunk_of
from scientistcloud.omezarr.image import Axis, AxisKind, Coordinate, Image
from scientistcloud.omezarr.pyramid import Level, plan_levels

_DTYPES = frozenset((
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
    "float64", "complex64", "complex128",
))  # fmt: skip


@dataclass(slots=True)
class Member:
    """One variable of a group."""

    #: Its place among the images of the source.
    index: int
    image: Image
    chunk: Box
    levels: tuple[Level, ...]


@dataclass(slots=True)
class Group:
    """Images of the same plotting axes: each level is one xarray data set that holds all of them."""

    #: Where it stands in the store: empty for the root, else ``0``, ``1`` …
    path: str = ""
    members: list[Member] = field(default_factory=list)
    coordinates: dict[str, Coordinate] = field(default_factory=dict)
    #: Length of every dimension of level 0, those of coordinates (``bnds``) included.
    lengths: dict[str, int] = field(default_factory=dict)

    @property
    def level_count(self) -> int:
        return max(len(member.levels) for member in self.members)

    def factors(self, level: int) -> dict[str, int]:
        """Pixels of level 0 in one of `level`, by dimension; 1 for those that no image lies along."""
        found = dict.fromkeys(self.lengths, 1)
        for member in self.members:
            at = member.levels[min(level, len(member.levels) - 1)]
            found |= {axis.name: f for axis, f in zip(member.image.axes, at.factors, strict=True) if f > 1}
        return found


def arrange(
    images: Sequence[Image], *, levels: int | None = None, chunk: Sequence[int] | None = None
) -> tuple[list[Group], list[str]]:
    """The groups of a store, the default image first in the first; and a sentence for each thing left out.

    `chunk` overrules that of each image along its last axes. One group stands at the root of the store; several are
    its children ``0``, ``1`` … Raises `UnsupportedSource` for an image that OME-NGFF has no place for.
    """
    groups: list[Group] = []
    warnings: list[str] = []
    for index, image in enumerate(images):
        _check(image)
        box = chunk_of(image, chunk)
        member = Member(index, image, box, plan_levels(image.axes, box, levels))
        home = next((group for group in groups if _fits(group, member)), None)
        if home is None:
            home = Group()
            groups.append(home)
        home.members.append(member)
        home.lengths |= {axis.name: axis.length for axis in image.axes}
        warnings += _take_coordinates(home, image)
    for group in groups:
        for member in group.members:
            for axis in member.image.axes:
                _add_index(group, axis)
    if len(groups) > 1:
        for number, group in enumerate(groups):
            group.path = str(number)
    return groups, warnings


def alone(image: Image, index: int, *, chunk: Box, path: str) -> Group:
    """A group that holds an array without levels, and its coordinates."""
    whole = (1,) * len(image.axes)
    group = Group(path=path, lengths={axis.name: axis.length for axis in image.axes})
    _take_coordinates(group, image)
    for axis in image.axes:
        _add_index(group, axis)
    group.members.append(Member(index, image, chunk, (Level(image.shape, whole, whole),)))
    return group


def _check(image: Image) -> None:
    kinds = [axis.kind for axis in image.axes]
    space = kinds.count(AxisKind.SPACE)
    lead = kinds[: len(kinds) - space]
    allowed = (
        space in (2, 3)
        and AxisKind.SPACE not in lead
        and AxisKind.TIME not in lead[1:]
        and all(lead.count(kind) <= 1 for kind in lead)
        and len(kinds) <= 5
    )
    names = [axis.name for axis in image.axes]
    if not allowed or len(set(names)) < len(names) or not all(axis.length for axis in image.axes):
        shown = ", ".join(f"{axis.name} ({axis.kind}, {axis.length})" for axis in image.axes)
        raise UnsupportedSource(
            f"{image.source_name} has the axes {shown}; an image has two or three axes of space at the end, at "
            "most one of time at the beginning, one channel or custom axis each between them, and none is empty"
        )
    if image.dtype.name not in _DTYPES:
        raise UnsupportedSource(f"{image.source_name} holds {image.dtype}, which no image can be made of")


def _fits(group: Group, member: Member) -> bool:
    """Whether `member` can be a variable of the same xarray data sets, level by level."""
    image, first = member.image, group.members[0]
    space = [axis for axis in image.axes if axis.kind is AxisKind.SPACE]
    others = [axis for axis in first.image.axes if axis.kind is AxisKind.SPACE]
    taken = {each.image.name for each in group.members} | set(group.coordinates)
    return (
        space == others
        and image.series == first.image.series
        and member.chunk[-len(space) :] == first.chunk[-len(space) :]
        and len(member.levels) == len(first.levels)
        and image.name not in taken
        and all(group.lengths.get(axis.name, axis.length) == axis.length for axis in image.axes)
        and all(_same(group.coordinates.get(each.name), each) for each in image.coordinates)
        and not {each.name for each in image.coordinates} & taken - set(group.coordinates)
    )


def _same(known: Coordinate | None, new: Coordinate) -> bool:
    return known is None or (
        known.dims == new.dims
        and known.values.shape == new.values.shape
        and known.values.dtype == new.values.dtype
        and bool(np.array_equal(known.values, new.values, equal_nan=known.values.dtype.kind in "fc"))
    )


def _take_coordinates(group: Group, image: Image) -> list[str]:
    warnings = []
    for each in image.coordinates:
        if each.name in group.coordinates:
            continue
        if each.values.dtype.name not in _DTYPES:
            warnings.append(f"the coordinate {each.name} holds {each.values.dtype}, not numbers; it is left out")
        elif each.name in {member.image.name for member in group.members}:
            warnings.append(f"the coordinate {each.name} is called like an image; it is left out")
        elif each.name in each.dims and each.dims != (each.name,):
            warnings.append(f"the coordinate {each.name} lies along more than the axis it names; it is left out")
        elif len(each.dims) != each.values.ndim or any(
            group.lengths.get(name, n) != n for name, n in zip(each.dims, each.values.shape, strict=True)
        ):
            warnings.append(f"the coordinate {each.name} does not fit the axes that it names; it is left out")
        else:
            group.coordinates[each.name] = each
            group.lengths |= dict(zip(each.dims, each.values.shape, strict=True))
    return warnings


def _add_index(group: Group, axis: Axis) -> None:
    """A coordinate from spacing and origin, where the source has no array of its own for the axis."""
    if axis.spacing is None or axis.name in group.coordinates:
        return
    if axis.name in {member.image.name for member in group.members}:
        return
    values = axis.origin + axis.spacing * np.arange(axis.length, dtype=np.float64)
    attributes = {"units": axis.unit} if axis.unit else {}
    group.coordinates[axis.name] = Coordinate(
        name=axis.name, dims=(axis.name,), values=values, attributes=attributes
    )
