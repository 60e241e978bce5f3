"""Values of data sets: past the library where that can be (`hdf5_direct`), else by it."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from scientistcloud.converters.choice import check_plausible
from scientistcloud.converters.formats.hdf5.tree import Dataset
from scientistcloud.converters.hdf5_chunks import Index
from scientistcloud.converters.hdf5_direct import DirectReader
from scientistcloud.converters.hdf5_filters import missing, pipeline
from scientistcloud.converters.hdf5_links import DAMAGES
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array

READER = f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}, hdf5plugin {hdf5plugin.version}"


class Values:
    """The values of one data set's files. Safe from several threads."""

    def __init__(self, scratch: Path | None = None) -> None:
        self._direct = DirectReader(scratch)

    def close(self) -> None:
        self._direct.close()

    def check(self, dataset: Dataset) -> None:
        """Whether they can be read at all.

        Raises `UnreadableSource` for a size that the file cannot hold and for missing files of a view,
        `UnsupportedSource` for compression that nobody here undoes.
        """
        lacking = dataset.file.lacking.get(dataset.key[1])
        if lacking:
            how = "is a view of" if dataset.outside is None else "is stored in"
            raise UnreadableSource(
                f"{dataset.file.name} is incomplete: {dataset.path} {how} {lacking[0]!r}, which is missing; "
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
        if dataset.outside is not None:
            there = sum(segment.size for segment in dataset.outside)
            if there < claimed:
                raise UnreadableSource(
                    f"{dataset.file.name} is incomplete: {dataset.path} needs {claimed} bytes and "
                    f"{dataset.outside[-1].path.name} ends after {there} of them; upload that file again"
                )
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
        try:
            block = self._direct.read(dataset, index)
            if block is None:
                block = np.asarray(dataset.handle[index])
        except DAMAGES as broken:
            raise UnreadableSource(
                f"{dataset.file.name} is damaged: {dataset.path} does not decode "
                f"({' '.join(str(broken).split())}); upload it again"
            ) from broken
        return block.astype(dataset.dtype, copy=False)

    def written(self, dataset: Dataset, rank: int) -> Array | None:
        """At which places of the first `rank` dimensions anything was ever written; None: that is not known."""
        return None if dataset.handle.chunks is None else self._direct.written(dataset, rank)

    def all(self, dataset: Dataset) -> Array:
        """All values of a small data set."""
        return self.read(dataset, tuple(slice(0, n) for n in dataset.shape))


def chunk_of(dataset: Dataset) -> tuple[int, ...] | None:
    """The block in which it is read fastest; None where it lies in one piece."""
    chunks = dataset.handle.chunks
    return None if chunks is None else tuple(min(c, n) for c, n in zip(chunks, dataset.shape, strict=True))
