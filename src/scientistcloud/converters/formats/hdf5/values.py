"""Values of data sets: by position where they lie plainly or in chunks that we decode, else by the library."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from scientistcloud.converters.choice import check_plausible
from scientistcloud.converters.formats.hdf5.chunks import ChunkReader, Index
from scientistcloud.converters.formats.hdf5.filters import is_ours, missing, pipeline
from scientistcloud.converters.formats.hdf5.tree import Dataset
from scientistcloud.converters.hdf5_links import DAMAGES
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array

READER = f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}, hdf5plugin {hdf5plugin.version}"


class Values:
    """The values of one data set's files. Safe from several threads."""

    def __init__(self, scratch: Path | None = None) -> None:
        self._chunks = ChunkReader(scratch)
        self._ways: dict[tuple[int, int], str] = {}

    def close(self) -> None:
        self._chunks.close()

    def check(self, dataset: Dataset) -> None:
        """Whether they can be read at all.

        Raises `UnreadableSource` for a size that the file cannot hold and for missing files of a view,
        `UnsupportedSource` for compression that nobody here undoes.
        """
        lacking = dataset.file.lacking.get(dataset.key[1])
        if lacking:
            raise UnreadableSource(
                f"{dataset.file.name} is incomplete: {dataset.path} is a view of {lacking[0]!r}, which is missing; "
                "send that file with it"
            )
        unknown = missing(pipeline(dataset.handle))
        if unknown:
            raise UnsupportedSource(
                f"{dataset.file.name}: {dataset.path} is compressed by the HDF5 filter {unknown[0]}, which is not "
                "known here; save it with gzip"
            )
        claimed = math.prod(dataset.shape) * dataset.stored.itemsize
        plan = dataset.handle.id.get_create_plist()
        if plan.get_layout() == h5py.h5d.VIRTUAL:
            return
        # What was never written takes no place in a file.
        stored = dataset.handle.id.get_storage_size()
        if stored > dataset.file.size or (stored and plan.get_layout() != h5py.h5d.CHUNKED and stored < claimed):
            raise UnreadableSource(
                f"{dataset.file.name} is damaged or cut off: {dataset.path} claims {stored} bytes of "
                f"{dataset.file.size}; upload it again"
            )
        check_plausible(dataset.file.name, f"{dataset.path} {dataset.shape}", claimed, dataset.file.size)

    def read(self, dataset: Dataset, index: Index) -> Array:
        """As stored, in native byte order. Raises `UnreadableSource`."""
        dataset.file.must_be_unchanged()
        if any(part.stop <= part.start for part in index):
            return np.empty([max(0, part.stop - part.start) for part in index], dataset.dtype)
        way = self._ways.get(dataset.key)
        if way is None:
            way = self._ways[dataset.key] = _way(dataset)
        try:
            if way == "chunks":
                block = self._chunks.read(dataset, index)
            elif way == "plain":
                block = _read_plain(dataset, index)
            else:
                block = np.asarray(dataset.handle[index])
        except DAMAGES as broken:
            raise UnreadableSource(
                f"{dataset.file.name} is damaged: {dataset.path} does not decode "
                f"({' '.join(str(broken).split())}); upload it again"
            ) from broken
        return block.astype(dataset.dtype, copy=False)

    def written(self, dataset: Dataset, rank: int) -> Array | None:
        """At which places of the first `rank` dimensions anything was ever written; None: that is not known."""
        return None if dataset.handle.chunks is None else self._chunks.written(dataset, rank)

    def all(self, dataset: Dataset) -> Array:
        """All values of a small data set."""
        return self.read(dataset, tuple(slice(0, n) for n in dataset.shape))


def chunk_of(dataset: Dataset) -> tuple[int, ...] | None:
    """The block in which it is read fastest; None where it lies in one piece."""
    chunks = dataset.handle.chunks
    return None if chunks is None else tuple(min(c, n) for c, n in zip(chunks, dataset.shape, strict=True))


def _way(dataset: Dataset) -> str:
    """Whether the bytes in the file are the values (`plain`), or become them by what we undo (`chunks`)."""
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
