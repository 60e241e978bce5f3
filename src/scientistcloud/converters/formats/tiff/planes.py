"""Reading boxes of pixels out of pages: uncompressed ones straight from the file, others tile by tile.

A page is seen as tifffile normalises it, in five axes: separate samples, depth, length, width, contiguous
samples (`shaped`). Everything here is safe from several threads: places in the file are known beforehand, the
file is read by position, and decoding keeps no state.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from scientistcloud.converters.formats.tiff.files import Files
from scientistcloud.converters.kept import Kept
from scientistcloud.errors import UnreadableSource
from scientistcloud.omezarr.image import Array

Box = tuple[slice, slice, slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Codec:
    """What pages of one layout share."""

    shaped: tuple[int, int, int, int, int]
    #: In native byte order; bilevel pages are 0 and 1 as uint8.
    dtype: np.dtype[Any]
    #: Byte order of the pixels in the file.
    order: str
    #: Depth, length and width of a strip or tile.
    segment: tuple[int, int, int]
    tiled: bool
    #: tifffile's decoder: (bytes, number of the segment, …) -> array, its place, its shape.
    decode: Callable[..., Any]
    #: Keywords for `decode`.
    header: dict[str, Any]
    #: Value of segments that are not in the file.
    nodata: float | int
    #: Neither compressed, predicted nor packed in bits: what is in the file are the pixels.
    plain: bool

    @property
    def page_bytes(self) -> int:
        return math.prod(self.shaped) * self.dtype.itemsize

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Segments along separate samples, depth, length and width."""
        samples, depth, length, width, _ = self.shaped
        return (
            samples,
            math.ceil(depth / self.segment[0]),
            math.ceil(length / self.segment[1]),
            math.ceil(width / self.segment[2]),
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Where one page's pixels lie."""

    file: int
    #: Its number in its file, from 1, for messages.
    number: int
    codec: Codec
    #: First byte of the pixels where they lie uncompressed in one piece; else None.
    start: int | None
    offsets: Sequence[int] = ()
    sizes: Sequence[int] = ()
    tables: bytes | None = None

    def behind(self, size: int) -> int | None:
        """The first strip or tile that does not lie within a file of `size` bytes; None where all do."""
        if self.start is not None:
            return None if self.start + self.codec.page_bytes <= size else 0
        ends = zip(self.offsets, self.sizes, strict=False)
        return next((number for number, (offset, length) in enumerate(ends) if offset + length > size), None)


def page_at(
    file: int, number: int, codec: Codec, offsets: Sequence[int], sizes: Sequence[int], tables: bytes | None = None
) -> Page:
    """A page of a file whose strips or tiles lie at `offsets`."""
    plain = codec.plain and not codec.tiled and len(offsets) > 0
    if plain and len(offsets) > 1:
        places = zip(offsets, sizes, offsets[1:], strict=False)
        plain = sum(sizes) == codec.page_bytes and all(a + n == b and n for a, n, b in places)
    return Page(file, number, codec, offsets[0] if plain else None, offsets, sizes, tables)


class PageReader:
    """Boxes of pixels of pages."""

    def __init__(self, files: Files, scratch: Path | None) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="tiff")
        self._kept = Kept(scratch)

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        self._kept.close()

    def read(self, jobs: Sequence[tuple[Page, Array]], box: Box) -> None:
        """Fill each target (five axes, as `Page.codec.shaped`) with its page's pixels in `box`.

        Raises `UnreadableSource` naming the file and the page, strip or tile that does not decode.
        """
        for file in {page.file for page, _ in jobs}:
            self._files.check_unchanged(file)
        packed = []
        for page, target in jobs:
            if page.start is not None:
                self._read_plain(page, target, box)
            else:
                packed += [(page, target, segment) for segment in _touched(page.codec, box)]
        if len(packed) == 1:
            self._decode_into(packed[0], box)
        elif packed:
            for _ in self._pool.map(lambda job: self._decode_into(job, box), packed):
                pass

    def _read_plain(self, page: Page, target: Array, box: Box) -> None:
        assert page.start is not None
        codec = page.codec
        samples, depth, rows, columns, parts = box
        _, depths, length, width, contiguous = codec.shaped
        row = width * contiguous * codec.dtype.itemsize
        whole_rows = columns == slice(0, width) and parts == slice(0, contiguous)
        for sample, deep in product(range(samples.start, samples.stop), range(depth.start, depth.stop)):
            start = page.start + ((sample * depths + deep) * length + rows.start) * row
            plane = target[sample - samples.start, deep - depth.start]
            if whole_rows and plane.flags.c_contiguous:
                self._fill(page, plane, start)
            elif 4 * (columns.stop - columns.start) > width:
                whole = np.empty((rows.stop - rows.start, width, contiguous), codec.dtype)
                self._fill(page, whole, start)
                plane[...] = whole[:, columns, parts]
            else:
                part = np.empty((columns.stop - columns.start, contiguous), codec.dtype)
                skip = columns.start * contiguous * codec.dtype.itemsize
                for index in range(rows.stop - rows.start):
                    self._fill(page, part, start + index * row + skip)
                    plane[index] = part[:, parts]

    def _fill(self, page: Page, block: Array, start: int) -> None:
        if block.size:
            self._files.read_into(page.file, memoryview(block.reshape(-1).view(np.uint8).data), start)
            if page.codec.order != _NATIVE and block.itemsize > 1:
                block.byteswap(inplace=True)

    def _decode_into(self, job: tuple[Page, Array, int], box: Box) -> None:
        page, target, segment = job
        codec = page.codec
        place, length = _place(codec, segment)
        wanted = tuple(
            slice(max(have, want.start), min(have + size, want.stop))
            for have, size, want in zip(place, length, box, strict=True)
        )
        into = tuple(slice(w.start - b.start, w.stop - b.start) for w, b in zip(wanted, box, strict=True))
        if self._is_empty(page, segment):
            target[into] = codec.nodata
            return
        source = tuple(slice(w.start - p, w.stop - p) for w, p in zip(wanted[1:], place[1:], strict=True))
        key = (page.file, page.number, segment)
        if all(part == slice(0, n) for part, n in zip(source, length[1:], strict=True)) and key not in self._kept:
            part = self._decode(page, segment)[source]
        else:
            part = self._kept.part(
                key,
                source,
                shape=length[1:],
                dtype=codec.dtype,
                voxels=math.prod(length),
                # What a tile has beyond the page's edge is not kept.
                decode=lambda: self._decode(page, segment)[tuple(slice(0, n) for n in length[1:])],
            )
        if part.shape != target[into].shape[1:]:
            raise self._broken(page, segment, "it holds fewer pixels than it should")
        target[into] = part[np.newaxis]

    def _is_empty(self, page: Page, segment: int) -> bool:
        if segment >= min(len(page.offsets), len(page.sizes)):
            raise self._broken(page, segment, "the file does not say where it lies")
        return page.sizes[segment] == 0

    def _decode(self, page: Page, segment: int) -> Array:
        offset, size = page.offsets[segment], page.sizes[segment]
        encoded = self._files.read(page.file, offset, size)
        keywords = dict(page.codec.header)
        if page.tables is not None:
            keywords["jpegtables"] = page.tables
        try:
            data, _, _ = page.codec.decode(encoded, segment, **keywords)
            return np.asarray(data).astype(page.codec.dtype, copy=False)
        except Exception as failed:  # each codec raises errors of its own
            raise self._broken(page, segment, str(failed)) from failed

    def _broken(self, page: Page, segment: int, why: str) -> UnreadableSource:
        kind = "tile" if page.codec.tiled else "strip"
        return UnreadableSource(
            f"{self._files.name(page.file)} is damaged: {kind} {segment + 1} of page {page.number} does not decode "
            f"({' '.join(why.split())[:120]}); upload it again"
        )


_NATIVE = "<" if np.little_endian else ">"


def _touched(codec: Codec, box: Box) -> Iterator[int]:
    """Numbers of the segments that hold pixels of `box`, in the order of the file."""
    _, depths, lengths, widths = codec.counts
    samples, depth, rows, columns, _ = box
    for sample, deep, down, across in product(
        range(samples.start, samples.stop),
        _blocks(depth, codec.segment[0]),
        _blocks(rows, codec.segment[1]),
        _blocks(columns, codec.segment[2]),
    ):
        yield ((sample * depths + deep) * lengths + down) * widths + across


def _blocks(along: slice, size: int) -> range:
    return range(along.start // size, -(-along.stop // size))


def _place(codec: Codec, segment: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where a segment begins in the page, and its lengths within it."""
    _, depths, lengths, widths = codec.counts
    rest, across = divmod(segment, widths)
    rest, down = divmod(rest, lengths)
    sample, deep = divmod(rest, depths)
    start = (sample, deep * codec.segment[0], down * codec.segment[1], across * codec.segment[2], 0)
    size = (1, *codec.segment, codec.shaped[4])
    return start, tuple(
        min(length, whole - at) for at, length, whole in zip(start, size, codec.shaped, strict=True)
    )
