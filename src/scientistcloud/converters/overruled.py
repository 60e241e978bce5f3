"""What a person overrules of a reader's choice: the array shown first, the names of axes, the spacing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.errors import InvalidParameters
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Image, Reader, Region, Source

_KINDS = {
    "t": AxisKind.TIME,
    "time": AxisKind.TIME,
    "c": AxisKind.CHANNEL,
    "channel": AxisKind.CHANNEL,
    "z": AxisKind.SPACE,
    "y": AxisKind.SPACE,
    "x": AxisKind.SPACE,
}
_RANK = {AxisKind.TIME: 0, AxisKind.CHANNEL: 1, AxisKind.CUSTOM: 1, AxisKind.SPACE: 2}


class Overruled:
    """A reader seen through `ReadOptions`, with what the registry has to add."""

    def __init__(self, reader: Reader, options: ReadOptions, *, warnings: Sequence[str] = ()) -> None:
        source = reader.describe()
        self._reader = reader
        self._places = _first(source, options.array)
        images = [source.images[place] for place in self._places]
        # For each image the axis of the reader's image behind each of its own.
        self._orders = [tuple(range(len(image.axes))) for image in images]
        if options.axes is not None:
            named = [_named(image, options.axes) for image in images]
            images, self._orders = [image for image, _ in named], [order for _, order in named]
        if options.spacing:
            images = _spaced(images, options)
        reason = source.reason
        if options.array is not None:
            reason = f"{images[0].source_name} is shown first because it was asked for"
        if options.scan is not None and not source.arrays:
            raise InvalidParameters(
                "rows and columns of a scan were given, but there are no frames of one in it; leave them out, or "
                "name the frames with --array"
            )
        self._source = replace(source, images=tuple(images), reason=reason, warnings=(*source.warnings, *warnings))

    def describe(self) -> Source:
        return self._source

    def read(self, image: int, region: Region) -> Array:
        if image >= len(self._orders):  # an array beside the images
            return self._reader.read(image, region)
        order = self._orders[image]
        asked = tuple(region[order.index(axis)] for axis in range(len(order)))
        block = self._reader.read(self._places[image], asked)
        return block if order == tuple(range(len(order))) else block.transpose(order)

    def close(self) -> None:
        self._reader.close()


def _first(source: Source, array: str | None) -> list[int]:
    """The images' places in the reader's order, the one asked for first."""
    places = list(range(len(source.images)))
    if array is None:
        return places
    for place, image in enumerate(source.images):
        whole = image.source_name.split(", ", 1)[0]  # without "level 3", or what it was made of the whole
        if array in (image.name, image.source_name, image.source_name.lstrip("/"), whole, whole.lstrip("/")):
            return [place, *places[:place], *places[place + 1 :]]
    names = ", ".join(image.name for image in source.images[:20])
    raise InvalidParameters(f"there is no array {array!r} in it that is a picture; there are {names}")


def _named(image: Image, names: Sequence[str]) -> tuple[Image, tuple[int, ...]]:
    """`image` with its axes called `names`, in the order that OME asks for. Images of other ranks stay."""
    if len(names) != len(image.axes):
        return image, tuple(range(len(image.axes)))
    axes = [
        axis if axis.name == name else _renamed(axis, name) for axis, name in zip(image.axes, names, strict=True)
    ]
    kinds = [axis.kind for axis in axes]
    others = len(kinds) - kinds.count(AxisKind.SPACE) - kinds.count(AxisKind.TIME)
    twice = len(set(names)) < len(names) or kinds.count(AxisKind.TIME) > 1 or others > 1
    if twice or not 2 <= kinds.count(AxisKind.SPACE) <= 3:
        raise InvalidParameters(
            f"the axes {', '.join(names)} make no image: name two or three of space (z, y, x), at most one "
            "of time (t), and one of channels (c) or another kind"
        )
    order = tuple(sorted(range(len(axes)), key=lambda index: _RANK[axes[index].kind]))
    renames = {old.name: new.name for old, new in zip(image.axes, axes, strict=True)}
    was = image.transposed or tuple(range(len(axes)))
    moved = tuple(was[index] for index in order)
    channels = any(old.kind is new.kind is AxisKind.CHANNEL for old, new in zip(image.axes, axes, strict=True))
    coordinates = tuple(
        replace(
            each,
            name=renames.get(each.name, each.name) if each.dims else each.name,
            dims=tuple(renames.get(name, name) for name in each.dims),
        )
        for each in image.coordinates
    )
    return replace(
        image,
        axes=tuple(axes[index] for index in order),
        coordinates=coordinates,
        channels=image.channels if channels else (),
        rgb=image.rgb and channels,
        transposed=None if moved == tuple(range(len(moved))) else moved,
        source_chunk=tuple(image.source_chunk[index] for index in order) if image.source_chunk else None,
    ), order


def _renamed(axis: Axis, name: str) -> Axis:
    kind = _KINDS.get(name, axis.kind)
    if kind is AxisKind.CHANNEL or kind is axis.kind:
        return replace(axis, name=name, kind=kind)
    # A spacing in micrometres says nothing about time.
    return replace(axis, name=name, kind=kind, spacing=None, origin=0.0, unit=None)


def _spaced(images: Sequence[Image], options: ReadOptions) -> list[Image]:
    known = {axis.name for image in images for axis in image.axes}
    for name, spacing in options.spacing.items():
        if name not in known:
            raise InvalidParameters(f"there is no axis {name!r} to space; there are {', '.join(sorted(known))}")
        if not 0 < spacing < math.inf:
            raise InvalidParameters(f"the spacing of {name} is {spacing:g}; it has to be a number above 0")
    return [
        replace(
            image,
            axes=tuple(
                replace(axis, spacing=float(options.spacing[axis.name])) if axis.name in options.spacing else axis
                for axis in image.axes
            ),
        )
        for image in images
    ]


def options_from_text(
    *,
    array: str | None,
    axes: str | None,
    spacing: str | None,
    bands: str | None = None,
    scan: str | None = None,
) -> ReadOptions:
    """Options as people type them: `axes` as ``t,y,x``, `spacing` as ``z=2.5,y=0.4``, `scan` as ``3x4``.

    Raises `InvalidParameters`.
    """
    steps: dict[str, float] = {}
    for part in spacing.split(",") if spacing else []:
        name, _, number = part.partition("=")
        try:
            steps[name.strip()] = float(number)
        except ValueError:
            raise InvalidParameters(f"{part!r} is no axis with a number; write z=2.5,y=0.4,x=0.4") from None
    names = tuple(name.strip() for name in axes.split(",")) if axes else None
    return ReadOptions(array=array, axes=names, spacing=steps, bands=bands, scan=scan_from_text(scan))


def scan_from_text(text: str | None) -> tuple[int, int] | None:
    """Rows and columns as people type them, ``3x4``. Raises `InvalidParameters`."""
    if text is None:
        return None
    parts = re.fullmatch(r"\s*(\d{1,9})\s*[x×*,]\s*(\d{1,9})\s*", text)
    if parts is None or not int(parts[1]) or not int(parts[2]):
        raise InvalidParameters(f"{text!r} is no number of rows and columns; write 3x4 for 3 rows of 4 points")
    return int(parts[1]), int(parts[2])
