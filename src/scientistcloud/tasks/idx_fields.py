"""Which fields the variables of a store become in an IDX: pure arithmetic on axes and names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import numpy as np

from scientistcloud.converters.choice import unique
from scientistcloud.errors import UnsupportedSource
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Image, Region
from scientistcloud.omezarr.plan import Variable

MOST_FIELDS = 256
# What OpenVisus has no type for, and what holds every value of it.
_WIDENED: Mapping[str, tuple[str, int]] = {
    "bool": ("uint8", 1),
    "float16": ("float32", 1),
    "complex64": ("float32", 2),
    "complex128": ("float64", 2),
}
_NOT_KEPT = ("units", "scale_factor", "add_offset", "_FillValue", "missing_value", "grid_mapping", "flag_values")


@dataclass(frozen=True, slots=True)
class Field:
    """A field, as a part of a variable. Its axes of space are x first, as OpenVisus has them."""

    name: str
    variable: Variable
    dtype: str
    #: Of a pixel: colours, and two for a complex number.
    components: int
    #: The step of each axis before those of space; None for time, and for colours, which are taken whole.
    at: tuple[int | None, ...]

    @property
    def image(self) -> Image:
        return self.variable.member.image

    @property
    def lengths(self) -> list[int]:
        """Of the box, x first."""
        return [axis.length for axis in space_of(self.image)]

    @property
    def times(self) -> int:
        return times_of(self.image)

    @property
    def pixel_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * self.components

    @property
    def size_bytes(self) -> int:
        return prod(self.lengths) * self.times * self.pixel_bytes

    def spelled(self, packing: str = "") -> str:
        """As the header of an IDX has it."""
        components = f"[{self.components}]" if self.components > 1 else ""
        return f"{self.name} {self.dtype}{components} {packing}".strip()

    def values(self, array: Any, time: int, region: Region) -> Array:
        """What stands in `region` (z, y, x), components last, of the variable's `array`."""
        where: list[Any] = []
        for axis, at in zip(self.image.axes, self.at, strict=False):
            where.append(time if axis.kind is AxisKind.TIME else slice(None) if at is None else at)
        stored = np.asarray(array[(*where, *region)].read().result())
        if stored.ndim > len(region):
            stored = np.moveaxis(stored, 0, -1)
        if stored.dtype.kind == "c":
            stored = np.ascontiguousarray(stored).view(self.dtype).reshape(*stored.shape, 2)
        return np.ascontiguousarray(stored, self.dtype)

    def regions(self, bitmask: str, *, most_bytes: int) -> Iterator[tuple[int, Region]]:
        """Time, and boxes (z, y, x) whose samples stand together in the order of `bitmask`, over all there is."""
        box = [1] * len(self.lengths)
        for bit in reversed(bitmask[1:]):
            wider = [2 * size if axis == int(bit) else size for axis, size in enumerate(box)]
            if prod(wider) * self.pixel_bytes > most_bytes:
                break
            box = wider
        space, steps = self.lengths[::-1], box[::-1]
        for time in range(self.times):
            for start in product(*(range(0, n, step) for n, step in zip(space, steps, strict=True))):
                ends = [min(a + step, n) for a, step, n in zip(start, steps, space, strict=True)]
                yield time, tuple(slice(a, b) for a, b in zip(start, ends, strict=True))


def space_of(image: Image) -> list[Axis]:
    """Its axes of space, x first."""
    return [axis for axis in image.axes if axis.kind is AxisKind.SPACE][::-1]


def times_of(image: Image) -> int:
    return next((axis.length for axis in image.axes if axis.kind is AxisKind.TIME), 1)


def split(variables: Sequence[Variable]) -> tuple[list[Variable], list[str]]:
    """Those that share the box of the first, and the names of the others."""
    first = variables[0].member.image
    box = (space_of(first), times_of(first))
    kept = [each for each in variables if (space_of(each.member.image), times_of(each.member.image)) == box]
    return kept, [each.member.image.name for each in variables if each not in kept]


def fields_of(variables: Sequence[Variable]) -> list[Field]:
    """The fields that hold `variables`. Raises `UnsupportedSource` where they would be too many."""
    fields = []
    for variable in variables:
        image = variable.member.image
        dtype, components = _WIDENED.get(image.dtype.name, (image.dtype.name, 1))
        lead = [axis for axis in image.axes if axis.kind is not AxisKind.SPACE]
        steps: list[Sequence[int | None]] = []
        for axis in lead:
            colours = image.rgb and axis.kind is AxisKind.CHANNEL
            components *= axis.length if colours else 1
            steps.append([None] if colours or axis.kind is AxisKind.TIME else range(axis.length))
        if (count := prod(len(each) for each in steps)) > MOST_FIELDS:
            raise UnsupportedSource(
                f"{image.name} would become {count} fields of an IDX, one for each step of its axes beside time "
                f"and space, and {MOST_FIELDS} are possible; convert it to OME-Zarr"
            )
        for at in product(*steps):
            words = [_word(image, axis, step) for axis, step in zip(lead, at, strict=True) if step is not None]
            fields.append(Field(_plain("_".join([image.name, *words])), variable, dtype, components, tuple(at)))
    names = unique([field.name for field in fields])
    return [replace(field, name=name) for field, name in zip(fields, names, strict=True)]


def header_of(variable: Variable, stem: str) -> dict[str, Any]:
    """What an IDX with the box of `variable`, called `stem`, says beside its fields."""
    image = variable.member.image
    space, times = space_of(image), times_of(image)
    physical = None
    if any(axis.spacing is not None for axis in space) and not falling(variable):
        # From edge to edge; centres lie half a step inside.
        steps = [axis.spacing or 1.0 for axis in space]
        low = [axis.origin - step / 2 for axis, step in zip(space, steps, strict=True)]
        physical = [[a, a + axis.length * s] for a, axis, s in zip(low, space, steps, strict=True)]
    return {
        "lengths": [axis.length for axis in space],
        "axes": [_plain(axis.name) for axis in space],
        "times": times,
        "time_template": f"time%0{len(str(times - 1))}d/" if times > 1 else "",
        "template": f"./{stem}/%04x.bin",
        "physical": physical,
    }


def falling(variable: Variable) -> list[str]:
    """Axes whose coordinates fall, which no box of OpenVisus can say."""
    found = []
    for axis in space_of(variable.member.image):
        known = variable.group.coordinates.get(axis.name)
        if (
            known is not None
            and known.values.ndim == 1
            and known.values.dtype.kind in "iuf"
            and known.values.size > 1
        ):
            factor = float(known.attributes.get("scale_factor", 1))
            if (float(known.values[-1]) - float(known.values[0])) * factor < 0:
                found.append(axis.name)
    return found


def said(kept: Sequence[Variable], left: Sequence[str]) -> Iterator[str]:
    """What of the store the IDX does not hold, a sentence each."""
    if left:
        names = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
        yield f"left out, because the fields of an IDX have one box: {names}"
    for variable in kept:
        image = variable.member.image
        if lost := [key for key in _NOT_KEPT if key in image.attributes]:
            yield f"{image.name}: values are as stored; IDX has no place for {', '.join(lost)}"
        if image.dtype.name in _WIDENED:
            dtype, components = _WIDENED[image.dtype.name]
            spelled = f"{dtype}[{components}]" if components > 1 else dtype
            yield f"{image.name}: IDX has no {image.dtype.name}, so it holds {spelled}"
    if axes := falling(kept[0]):
        yield f"the box of the IDX is in pixels, because {' and '.join(axes)} falls"
    if len(space_of(kept[0].member.image)) == 2:
        yield "OpenVisus shows the first row of a picture at the bottom; rows are as in the source"


def _word(image: Image, axis: Axis, step: int) -> str:
    if axis.kind is AxisKind.CHANNEL and image.channels:
        return image.channels[step].label
    return f"{axis.name}{step}"


def _plain(name: str) -> str:
    """`name` in letters that the header of an IDX can hold."""
    return "".join(each if each.isascii() and each.isalnum() else "_" for each in name)
