"""`Image`: where the readers of foreign formats and the one writer meet.

A reader describes what it found as a `Source` of images and hands out regions; the writer knows nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scientistcloud.records import Json

Array = NDArray[Any]
Region = tuple[slice, ...]
"""One slice with start and stop for each axis of the image, step 1, within its shape."""


class AxisKind(StrEnum):
    """OME-NGFF's types of axes. They come in this order, 2 to 5 in all: time, channel or custom, space."""

    TIME = "time"
    CHANNEL = "channel"
    CUSTOM = "custom"
    SPACE = "space"


class Reduction(StrEnum):
    """How level n is made from level n−1."""

    MEAN = "mean"
    MAXIMUM = "maximum"
    MODE = "mode"
    OR = "bitwise or"
    NEAREST = "nearest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of an image."""

    #: Unique in the image: `t c z y x` for pictures, the source's own names (`latitude`) where it has them.
    name: str
    kind: AxisKind
    length: int
    #: Distance of neighbouring pixel centres, positive, in `unit`; None where the source does not say.
    spacing: float | None = None
    #: Where the centre of the first pixel lies, in `unit`.
    origin: float = 0.0
    #: A unit of OME-NGFF's own list ("micrometer", "second"); None for any other (it stands in CF `units`).
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """How one channel is shown."""

    label: str
    #: RRGGBB.
    color: str = "FFFFFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinate:
    """A coordinate, bounds, grid mapping or other small variable that belongs to images, in the CF sense."""

    name: str
    #: Names of the axes that it lies along; () for a scalar such as a grid mapping.
    dims: tuple[str, ...]
    #: The values as stored in the source (packed stays packed).
    values: Array
    #: CF attributes as the source has them, `_FillValue` included.
    attributes: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One array that can be looked at, in the axis order in which it is written."""

    #: The variable's name in the store: `image` for pictures and stacks, else the source's, made unique.
    name: str
    #: Where it stands in the source ("/product/no2", "series 0"), for people and for the recipe.
    source_name: str
    axes: tuple[Axis, ...]
    dtype: np.dtype[Any]
    #: CF attributes of the variable (JSON values and NumPy scalars): `units`, `scale_factor`, `_FillValue` …
    attributes: Json = field(default_factory=dict)
    #: Stored values that mean "no data".
    fill: tuple[float | int, ...] = ()
    #: None: the writer decides between mean and maximum from the data (see conversion.md, "Levels").
    reduction: Reduction | None = None
    coordinates: tuple[Coordinate, ...] = ()
    #: One for each index of the channel axis; () without one.
    channels: tuple[Channel, ...] = ()
    #: True: the channel axis holds red, green, blue (and alpha as a fourth, shown as transparency); without a
    #: channel axis, a photograph in grey, shown so.
    rgb: bool = False
    #: The ICC profile of a photograph's colours, heeded where it is looked at; values are as they are.
    icc: bytes = b""
    #: Images of unequal numbers never share a group, however alike they are (photographs of a survey).
    series: int | None = None
    #: Rows go from the bottom up.
    upward: bool = False
    #: `valid_range` in stored values, where the source gives one.
    valid_range: tuple[float, float] | None = None
    #: Source axis of each written axis, where they were reordered ("samples last" becomes c, y, x).
    transposed: tuple[int, ...] | None = None
    #: The block in which the source is read fastest, in the order of `axes`; a hint.
    source_chunk: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.length for axis in self.axes)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainArray:
    """An array that is kept whole beside the images: no levels, and no place in OME-NGFF."""

    #: Its name is that of the last part of `path`; kinds of axes mean nothing.
    image: Image
    #: Where it stands in the store: ``data/0``. Coordinates stand beside it.
    path: str
    #: What is read of it at once.
    chunk: tuple[int, ...]
    #: What is written of it at once, a multiple of `chunk`.
    shard: tuple[int, ...]
    #: Shown the values of each shard, and where it begins: once for each, from several threads, in about the order
    #: of their places, before any image is read. So a reader can make images of the array while it is written.
    seen: Callable[[tuple[int, ...], Array], None] | None = None
    #: Images of a quick look at it, of the image of what was picked, which indices along each axis, and the values.
    sketch: Callable[[Image, tuple[range, ...], Array], Sequence[tuple[Image, Array]]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a reader found: the images, the one to show first, and the rest for people."""

    #: As `sensor` of the data set: `TIFF`, `TIFF RGB`, `NETCDF`, …
    sensor: str
    #: Never empty; the default field first.
    images: tuple[Image, ...]
    #: Name and version of the reading library, for the recipe.
    reader: str
    #: Why the first image was chosen, in a sentence.
    reason: str = ""
    #: What was left out, assumed or repaired, a sentence each.
    warnings: tuple[str, ...] = ()
    #: The source's own metadata (tags, OME-XML, attributes), JSON values.
    metadata: Json = field(default_factory=dict)
    #: Files that belong to it beside those that it was given (blocks beside their header), so that none of them is
    #: said to be left out.
    files: tuple[Path, ...] = ()
    #: Arrays that are kept beside the images; to `Reader.read` they are the numbers behind those of the images.
    arrays: tuple[PlainArray, ...] = ()


class Reader(Protocol):
    """An opened source."""

    def describe(self) -> Source:
        """What is there. Reads headers, never whole arrays; raises `SourceError`."""

    def read(self, image: int, region: Region) -> Array:
        """The values of ``images[image]`` in `region`, as stored, in native byte order and the order of its axes.

        Safe to call from several threads at once. Raises `SourceError` naming the file and what is wrong.
        """

    def close(self) -> None:
        """Let go of the files."""
