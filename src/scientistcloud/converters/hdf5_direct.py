"""Values of HDF5 data sets read by position, past the library: where they lie plainly or in chunks that we decode.

The readers of HDF5 and of netCDF-4 share it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scientistcloud.converters.hdf5_chunks import ChunkReader, Dataset, Index
from scientistcloud.converters.hdf5_filters import is_ours, pipeline
from scientistcloud.errors import UnreadableSource
from scientistcloud.omezarr.image import Array


class DirectReader:
    """Boxes of values. Safe from several threads."""

    def __init__(self, scratch: Path | None) -> None:
        self._chunks = ChunkReader(scratch)
        self._ways: dict[Hashable, str] = {}

    def close(self) -> None:
        self._chunks.close()

    def way(self, dataset: Dataset) -> str:
        """Whether the bytes in the file are the values (`plain`), or become them by what we undo (`chunks`)."""
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
            case _:
                return None

    def written(self, dataset: Dataset, rank: int) -> Array:
        """At which places of the first `rank` dimensions there is a chunk at all."""
        return self._chunks.written(dataset, rank)


def _way(dataset: Dataset) -> str:
    handle = dataset.handle
    plan = handle.id.get_create_plist()
    # Integers of 12 bits in 16, floats of another layout: what h5py calls them is not what the bytes are.
    if not dataset.shape or handle.id.get_type() != h5py.h5t.py_create(dataset.stored):
        return "library"
    if plan.get_layout() == h5py.h5d.CHUNKED and is_ours(pipeline(handle)):
        return "chunks"
    if plan.get_layout() == h5py.h5d.CONTIGUOUS and not plan.get_external_count() and handle.id.get_offset():
        return "plain"
    return "library"


def _read_plain(dataset: Dataset, index: Index) -> Array:
    out = np.empty([part.stop - part.start for part in index], dataset.stored)
    _fill(out, dataset, int(dataset.handle.id.get_offset()), dataset.shape, index)
    return out


def _fill(out: Array, dataset: Dataset, start: int, shape: tuple[int, ...], index: Index) -> None:
    """Read the box `index` of an array of `shape` that begins at byte `start`, in the longest pieces."""
    step = math.prod(shape[1:]) * dataset.stored.itemsize
    if all(part == slice(0, length) for part, length in zip(index[1:], shape[1:], strict=True)):
        _read_into(out, dataset, start + index[0].start * step)
        return
    for number, at in enumerate(range(index[0].start, index[0].stop)):
        _fill(out[number], dataset, start + at * step, shape[1:], index[1:])


def _read_into(out: Array, dataset: Dataset, offset: int) -> None:
    target: Any = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # arrays are buffers
    got = 0
    while got < len(target):
        count = os.preadv(dataset.file.fd, [target[got:]], offset + got)
        if count == 0:
            raise UnreadableSource(
                f"{dataset.file.name} ends at byte {offset + got}, within its values; upload it again"
            )
        got += count
