"""Values of HDF5 data sets read by position, past the library: where they lie plainly or in chunks that we decode.

The readers of HDF5 and of netCDF-4 share it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable
from pathlib import Path

import h5py
import numpy as np

from scientistcloud.converters.hdf5_chunks import ChunkReader, Dataset, File, Index, Segment
from scientistcloud.converters.hdf5_filters import is_ours, pipeline
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array


class DirectReader:
    """Boxes of values. Safe from several threads."""

    def __init__(self, scratch: Path | None) -> None:
        self._chunks = ChunkReader(scratch)
        self._ways: dict[Hashable, str] = {}

    def close(self) -> None:
        self._chunks.close()

    def way(self, dataset: Dataset) -> str:
        """Whether bytes in a file are the values (`plain`, `outside`), or become them by what we undo (`chunks`).

        Raises `UnsupportedSource` for what lies outside and is no plain numbers.
        """
        way = self._ways.get(dataset.key)
        if way is None:
            way = self._ways[dataset.key] = _way(dataset)
        return way

    def read(self, dataset: Dataset, index: Index) -> Array | None:
        """As stored, in the byte order of the file; None where only the library can read it.

        Raises `UnreadableSource`, and what h5py raises over damaged files.
        """
        match self.way(dataset):
            case "chunks":
                return self._chunks.read(dataset, index)
            case "plain":
                return _read_plain(dataset, index)
            case "outside":
                return _read_outside(dataset, index)
            case _:
                return None

    def written(self, dataset: Dataset, rank: int) -> Array:
        """At which places of the first `rank` dimensions there is a chunk at all."""
        return self._chunks.written(dataset, rank)


def _way(dataset: Dataset) -> str:
    handle = dataset.handle
    plan = handle.id.get_create_plist()
    # Integers of 12 bits in 16, floats of another layout: what h5py calls them is not what the bytes are.
    plain = bool(dataset.shape) and handle.id.get_type() == h5py.h5t.py_create(dataset.stored)
    if dataset.outside is not None:
        if not plain:
            raise UnsupportedSource(
                f"{dataset.file.name}: {dataset.path} is stored in another file, as unusual numbers; send "
                "a copy that holds its data itself"
            )
        return "outside"  # never by the library: it takes the name of that file from the working folder
    if plain and plan.get_layout() == h5py.h5d.CHUNKED and is_ours(pipeline(handle)):
        return "chunks"
    if plain and plan.get_layout() == h5py.h5d.CONTIGUOUS and handle.id.get_offset():
        return "plain"
    return "library"


_Fetch = Callable[[memoryview, int], None]
"""Fills memory with the bytes from a place on."""


def _read_plain(dataset: Dataset, index: Index) -> Array:
    out = np.empty([part.stop - part.start for part in index], dataset.stored)
    begin = int(dataset.handle.id.get_offset())
    _fill(out, lambda target, at: _fetch(dataset.file, target, begin + at), 0, dataset.shape, index)
    return out


def _read_outside(dataset: Dataset, index: Index) -> Array:
    out = np.empty([part.stop - part.start for part in index], dataset.stored)
    segments = dataset.outside or ()

    def fetch(target: memoryview, at: int) -> None:
        for segment in segments:
            if at < segment.size and len(target):
                count = min(len(target), segment.size - at)
                _fetch(segment, target[:count], segment.offset + at)
                target, at = target[count:], at + count
            at -= segment.size
        if len(target):
            raise UnreadableSource(f"{dataset.file.name}: {dataset.path} is not all there; upload its files again")

    _fill(out, fetch, 0, dataset.shape, index)
    return out


def _fill(out: Array, fetch: _Fetch, start: int, shape: tuple[int, ...], index: Index) -> None:
    """Read the box `index` of an array of `shape` that begins at byte `start`, in the longest pieces."""
    step = math.prod(shape[1:]) * out.itemsize
    if all(part == slice(0, length) for part, length in zip(index[1:], shape[1:], strict=True)):
        fetch(memoryview(out.reshape(-1).view(np.uint8).data), start + index[0].start * step)
        return
    for number, at in enumerate(range(index[0].start, index[0].stop)):
        _fill(out[number], fetch, start + at * step, shape[1:], index[1:])


def _fetch(file: File | Segment, target: memoryview, offset: int) -> None:
    got = 0
    while got < len(target):
        count = os.preadv(file.fd, [target[got:]], offset + got)
        if count == 0:
            name = file.path.name if isinstance(file, Segment) else file.name
            raise UnreadableSource(f"{name} ends at byte {offset + got}, within its values; upload it again")
        got += count
