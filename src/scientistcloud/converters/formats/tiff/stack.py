"""A stack: pages in the order of the axes above them, and images as views of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from scientistcloud.converters.formats.tiff.planes import Codec, Page, PageReader
from scientistcloud.omezarr.image import Array, Region


class Consecutive(Sequence[Page | None]):
    """Pages that follow each other without a gap in one file, most of them without a directory of their own."""

    def __init__(self, *, file: int, codec: Codec, start: int, count: int) -> None:
        self._file, self._codec, self._start, self._count = file, codec, start, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # slices are never asked for
        if not 0 <= index < self._count:
            raise IndexError(index)
        return Page(self._file, index + 1, self._codec, self._start + index * self._codec.page_bytes)


@dataclass(frozen=True, slots=True)
class Stack:
    """Pages of one layout under leading axes, all of it as one array of axes `letters`."""

    #: In C order of the leading axes; None where the file has no such page.
    pages: Sequence[Page | None]
    codec: Codec
    #: Lengths of the axes above the pages.
    lead: tuple[int, ...]
    #: tifffile's letter for each leading axis and each of the page's five.
    letters: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.lead, *self.codec.shaped)


@dataclass(frozen=True, slots=True)
class View:
    """An image's axes as axes of its stack."""

    stack: Stack
    #: Axis of the stack for each axis of the image.
    order: tuple[int, ...]
    #: Index along each of the stack's other axes.
    fixed: dict[int, int]

    def read(self, reader: PageReader, region: Region) -> Array:
        out = np.empty([part.stop - part.start for part in region], self.stack.codec.dtype)
        ranges: list[slice] = []
        for axis in range(len(self.stack.shape)):
            if axis in self.fixed:
                ranges.append(slice(self.fixed[axis], self.fixed[axis] + 1))
            else:
                ranges.append(region[self.order.index(axis)])
        sorted_axes = sorted(self.order)
        whole = out.transpose([self.order.index(axis) for axis in sorted_axes])
        whole = whole[tuple(np.newaxis if axis in self.fixed else slice(None) for axis in range(len(ranges)))]

        depth = len(self.stack.lead)
        jobs = []
        for index in product(*(range(part.start, part.stop) for part in ranges[:depth])):
            number = int(np.ravel_multi_index(index, self.stack.lead)) if index else 0
            page = self.stack.pages[number]
            target = whole[tuple(i - part.start for i, part in zip(index, ranges, strict=False))]
            if page is None:
                target[...] = self.stack.codec.nodata
            else:
                jobs.append((page, target))
        a, b, c, d, e = ranges[depth:]
        if math.prod(out.shape):
            reader.read(jobs, (a, b, c, d, e))
        return out
