"""A stack: pages in the order of the axes above them, and images as views of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import overload

import numpy as np

from scientistcloud.converters.formats.tiff.files import Files
from scientistcloud.converters.formats.tiff.planes import Codec, Page, PageReader
from scientistcloud.errors import UnreadableSource
from scientistcloud.omezarr.image import Array, Region


class Consecutive(Sequence[Page | None]):
    """Pages that follow each other without a gap in one file, most of them without a directory of their own."""

    def __init__(self, *, file: int, codec: Codec, start: int, count: int) -> None:
        self.file, self.codec, self.start, self._count = file, codec, start, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Page: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Page]: ...
    def __getitem__(self, index: int | slice) -> Page | Sequence[Page]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return Page(self.file, index + 1, self.codec, self.start + index * self.codec.page_bytes)

    def complete(self, size: int) -> int:
        """How many of the pages lie within a file of `size` bytes."""
        return min(self._count, max(0, size - self.start) // self.codec.page_bytes)


@dataclass(frozen=True, slots=True)
class Stack:
    """Pages of one layout under leading axes, all of it as one array of axes `letters`."""

    #: In C order of the leading axes, a run for each file; None where the files have no such page.
    runs: tuple[Sequence[Page | None], ...]
    codec: Codec
    #: Lengths of the axes above the pages.
    lead: tuple[int, ...]
    #: tifffile's letter for each leading axis and each of the page's five.
    letters: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.lead, *self.codec.shaped)

    @property
    def missing(self) -> int:
        """How many pages the files do not have."""
        return sum(sum(page is None for page in run) for run in self.runs if not isinstance(run, Consecutive))

    def page(self, number: int) -> Page | None:
        """The page at a place in the leading axes; all runs are of one length."""
        run, index = divmod(number, len(self.runs[0]))
        return self.runs[run][index]

    def cut(self, files: Files) -> str | None:
        """In a sentence, where the files end before their pages do; None where they do not."""
        for run in self.runs:
            if isinstance(run, Consecutive):
                complete = run.complete(files.size(run.file))
                if complete < len(run):
                    return _ends(files, run.file, complete, len(run), run[complete], 0)
                continue
            for index, page in enumerate(run):
                behind = page.behind(files.size(page.file)) if page else None
                if page is not None and behind is not None:
                    same = sum(other is not None and other.file == page.file for other in run)
                    before = sum(other is not None and other.file == page.file for other in run[:index])
                    return _ends(files, page.file, before, same, page, behind)
        return None


def joined(stacks: Sequence[Stack]) -> Stack:
    """Stacks of equal shape, one for each file, under one more axis: z of single pages, else time."""
    first = stacks[0]
    runs = tuple(run for stack in stacks for run in stack.runs)
    letter = "I" if not first.lead else "T" if "T" not in first.letters else "R"
    return replace(first, runs=runs, lead=(len(stacks), *first.lead), letters=letter + first.letters)


@dataclass(frozen=True, slots=True)
class View:
    """An image's axes as axes of its stack."""

    stack: Stack
    #: Axis of the stack for each axis of the image.
    order: tuple[int, ...]
    #: Index along each of the stack's other axes.
    fixed: dict[int, int]
    #: Why nothing can be read of it.
    broken: str | None = None

    def read(self, reader: PageReader, region: Region) -> Array:
        if self.broken:
            raise UnreadableSource(self.broken)
        out = np.empty([part.stop - part.start for part in region], self.stack.codec.dtype)
        of_axis = dict(zip(self.order, region, strict=True))
        ranges = [
            of_axis.get(axis, slice(self.fixed.get(axis, 0), self.fixed.get(axis, 0) + 1))
            for axis in range(len(self.stack.shape))
        ]
        # `out` with its axes in the order of the stack, and all of the stack's axes.
        whole = out.transpose([self.order.index(axis) for axis in sorted(self.order)])
        whole = whole[tuple(slice(None) if axis in of_axis else np.newaxis for axis in range(len(ranges)))]

        depth = len(self.stack.lead)
        jobs = []
        for index in product(*(range(part.start, part.stop) for part in ranges[:depth])):
            number = int(np.ravel_multi_index(index, self.stack.lead)) if index else 0
            page = self.stack.page(number)
            target = whole[tuple(at - part.start for at, part in zip(index, ranges, strict=False))]
            if page is None:
                target[...] = self.stack.codec.nodata
            else:
                jobs.append((page, target))
        samples, deep, rows, columns, parts = ranges[depth:]
        if math.prod(out.shape):
            reader.read(jobs, (samples, deep, rows, columns, parts))
        return out


def _ends(files: Files, file: int, complete: int, total: int, page: Page, segment: int) -> str:
    name = files.name(file)
    if total > 1:
        return f"{name} ends after {complete} of {total} pages; upload it again"
    where = "its pixels"
    if page.start is None:
        kind = "tile" if page.codec.tiled else "strip"
        where = f"{kind} {segment + 1} of {len(page.offsets)} of page {page.number}"
    return f"{name} ends at byte {files.size(file)}, within {where}; upload it again"
