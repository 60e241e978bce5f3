"""Where the chunks of a data set lie in its file, and reading boxes out of them in threads.

h5py inflates on one core under a lock. Here the chunks' places are asked once; their bytes are then read by
position and decoded by several threads, without the library.
"""

from __future__ import annotations

import math
import os
import threading
from array import array
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from scientistcloud.converters.hdf5_filters import DoesNotDecode, Filter, pipeline, undone
from scientistcloud.converters.hdf5_links import DAMAGES
from scientistcloud.converters.kept import Kept
from scientistcloud.errors import UnreadableSource
from scientistcloud.omezarr.image import Array

Index = tuple[slice, ...]
_SCRATCH_BYTES = 12 << 20  # a thread's room for a chunk; for larger ones it is made each time
_SMALL_BYTES = 16 << 10  # chunks below are handled many at a time
_BATCH_BYTES = 1 << 20  # of the file are read at once where chunks are small
_GAP_BYTES = 4 << 10  # a smaller gap is read over
_DEFLATED_AT_MOST = 1032


class File(Protocol):
    """An opened file, whose values are read by position from `fd`."""

    @property
    def name(self) -> str: ...
    @property
    def fd(self) -> int: ...
    @property
    def size(self) -> int: ...


class Dataset(Protocol):
    """A data set as its reader knows it."""

    @property
    def path(self) -> str: ...
    @property
    def file(self) -> File: ...
    @property
    def handle(self) -> h5py.Dataset: ...
    @property
    def key(self) -> Hashable:
        """The same for every path to it."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def stored(self) -> np.dtype[Any]:
        """The type of its values, in the byte order of the file."""

    @property
    def outside(self) -> Sequence[Segment] | None:
        """Where its values lie in other files, one after the other; None: they lie in its own."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of another file, opened."""

    path: Path
    fd: int
    offset: int
    size: int
    state: tuple[int, int]

    @classmethod
    def of(cls, path: Path, *, offset: int, size: int | None) -> Segment:
        """`size` bytes from `offset` on, None: all; fewer where the file ends before."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(fd)
        there = max(0, status.st_size - offset)
        return cls(
            path, fd, offset, there if size is None else min(size, there), (status.st_size, status.st_mtime_ns)
        )

    def must_be_unchanged(self) -> None:
        status = os.fstat(self.fd)
        if (status.st_size, status.st_mtime_ns) != self.state:
            raise UnreadableSource(f"{self.path.name} changed while it was read; convert it again")


@dataclass(frozen=True, slots=True)
class Table:
    """The chunks that are there, in the order of their numbers (row-major over the grid)."""

    grid: tuple[int, ...]
    numbers: Array
    offsets: Array
    sizes: Array
    masks: Array

    def find(self, numbers: Array) -> Array:
        """The row of each chunk; -1 for those that are not there."""
        rows = np.searchsorted(self.numbers, numbers)
        rows[rows == len(self.numbers)] = 0
        there = self.numbers[rows] == numbers if len(self.numbers) else np.zeros(len(numbers), np.bool_)
        return np.where(there, rows, -1)


def table_of(dataset: Dataset) -> Table:
    """Ask the library where the chunks are. Raises `UnreadableSource` for places behind the file's end."""
    chunk, file = dataset.handle.chunks, dataset.file
    grid = tuple(-(-n // c) for n, c in zip(dataset.shape, chunk, strict=True))
    places = [array("q") for _ in range(4)]

    def take(found: Any) -> None:
        number = 0
        for at, length, count in zip(found.chunk_offset, chunk, grid, strict=True):
            number = number * count + at // length
        for column, value in zip(places, (number, found.byte_offset, found.size, found.filter_mask), strict=True):
            column.append(value)

    try:
        dataset.handle.id.chunk_iter(take)
    except (*DAMAGES, OverflowError) as broken:
        raise UnreadableSource(
            f"{file.name} is damaged: the places of the chunks of {dataset.path} cannot be read; upload it again"
        ) from broken
    numbers, offsets, sizes, masks = (np.frombuffer(column, np.int64) for column in places)
    if len(numbers) and (int(offsets.min()) < 0 or int((offsets + sizes).max()) > file.size):
        raise UnreadableSource(
            f"{file.name} is damaged or cut off: chunks of {dataset.path} lie behind its end; upload it again"
        )
    order = np.argsort(numbers, kind="stable")
    return Table(grid, *(column[order] for column in (numbers, offsets, sizes, masks)))


class ChunkReader:
    """Boxes of values of chunked data sets. Safe from several threads."""

    def __init__(self, scratch: Path | None) -> None:
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="hdf5")
        self._tables: dict[Hashable, Chunked] = {}
        self._lock = threading.Lock()
        self._kept = Kept(scratch)

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        self._kept.close()

    def read(self, dataset: Dataset, index: Index) -> Array:
        """As stored, in the byte order of the file."""
        chunked = self._known(dataset)
        first = [part.start // c for part, c in zip(index, chunked.chunk, strict=True)]
        counts = [-(-part.stop // c) - f for part, c, f in zip(index, chunked.chunk, first, strict=True)]
        numbers = np.zeros((), np.int64)
        for start, count, length in zip(first, counts, chunked.table.grid, strict=True):
            numbers = np.add.outer(numbers * length, np.arange(start, start + count))
        rows = chunked.table.find(numbers.reshape(-1))
        if chunked.chunk_bytes <= _SMALL_BYTES and len(rows) > 16:
            return self._read_small(chunked, rows, index, first, counts)
        return self._read_large(chunked, rows, index, first, counts)

    def written(self, dataset: Dataset, rank: int) -> Array:
        """At which places of the first `rank` dimensions there is a chunk at all."""
        chunked = self._known(dataset)
        found = np.zeros(chunked.table.grid[:rank], np.bool_)
        found[np.unravel_index(chunked.table.numbers, chunked.table.grid)[:rank]] = True
        for dim, (length, count) in enumerate(zip(dataset.shape, chunked.chunk, strict=True)):
            if dim < rank:
                found = found.repeat(count, axis=dim).take(range(length), axis=dim)
        return found

    def _known(self, dataset: Dataset) -> Chunked:
        with self._lock:
            if dataset.key not in self._tables:
                self._tables[dataset.key] = Chunked.of(dataset)
            return self._tables[dataset.key]

    # -- many small chunks at a time ----------------------------------------------------------------

    def _read_small(
        self, chunked: Chunked, rows: Array, index: Index, first: Sequence[int], counts: Sequence[int]
    ) -> Array:
        cells = np.empty((len(rows), chunked.chunk_bytes), np.uint8)
        empty = rows < 0
        if empty.any():
            cells[empty] = np.full(math.prod(chunked.chunk), chunked.fill, chunked.dtype).view(np.uint8).reshape(-1)
        (there,) = np.nonzero(~empty)
        there = there[np.argsort(chunked.table.offsets[rows[there]], kind="stable")]
        batches = list(_batches(chunked.table, rows[there]))
        jobs = [(there[part], rows[there[part]]) for part in batches]
        for _ in self._pool.map(lambda job: chunked.fill_cells(cells, *job), jobs):
            pass
        # (grid, chunk) -> (grid 0, chunk 0, grid 1, chunk 1 …) -> one array
        rank = len(counts)
        tiles = cells.view(chunked.dtype).reshape(*counts, *chunked.chunk)
        tiles = tiles.transpose(
            [axis for pair in zip(range(rank), range(rank, 2 * rank), strict=True) for axis in pair]
        )
        whole = tiles.reshape([n * c for n, c in zip(counts, chunked.chunk, strict=True)])
        begins = [f * c for f, c in zip(first, chunked.chunk, strict=True)]
        return np.ascontiguousarray(
            whole[tuple(slice(part.start - at, part.stop - at) for part, at in zip(index, begins, strict=True))]
        )

    # -- large chunks -------------------------------------------------------------------------------

    def _read_large(
        self, chunked: Chunked, rows: Array, index: Index, first: Sequence[int], counts: Sequence[int]
    ) -> Array:
        out = np.empty([part.stop - part.start for part in index], chunked.dtype)
        if (rows < 0).any():
            out[...] = chunked.fill
        jobs = [
            (int(row), tuple(f + at for f, at in zip(first, place, strict=True)))
            for row, place in zip(rows.tolist(), np.ndindex(*counts), strict=True)
            if row >= 0
        ]

        def copy(job: tuple[int, tuple[int, ...]]) -> None:
            row, place = job
            begins = [at * c for at, c in zip(place, chunked.chunk, strict=True)]
            inside = tuple(
                slice(max(part.start, b) - b, min(part.stop, b + c) - b)
                for part, b, c in zip(index, begins, chunked.chunk, strict=True)
            )
            target = tuple(
                slice(b + part.start - whole.start, b + part.stop - whole.start)
                for part, b, whole in zip(inside, begins, index, strict=True)
            )
            real = [min(c, n - b) for c, n, b in zip(chunked.chunk, chunked.dataset.shape, begins, strict=True)]
            key = (id(chunked), row)
            if all(part == slice(0, n) for part, n in zip(inside, real, strict=True)) and key not in self._kept:
                part = out[target]
                if part.shape == chunked.chunk and part.flags.c_contiguous:
                    chunked.decode(row, place, part)
                else:
                    # One chunk a thread, used again and again: given back each time, they would lie scattered.
                    whole_chunk = _scratch(chunked)
                    chunked.decode(row, place, whole_chunk)
                    part[...] = whole_chunk[inside]
            else:
                out[target] = self._kept.part(
                    key,
                    inside,
                    shape=chunked.chunk,
                    dtype=chunked.dtype,
                    voxels=math.prod(real),
                    decode=lambda: chunked.decoded(row, place),
                )

        if len(jobs) == 1:
            copy(jobs[0])
        else:
            for _ in self._pool.map(copy, jobs):
                pass
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Chunked:
    """A data set whose chunks are decoded by us."""

    dataset: Dataset
    table: Table
    filters: tuple[Filter, ...]
    chunk: tuple[int, ...]
    #: Of the values in the file.
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, dataset: Dataset) -> Chunked:
        return cls(dataset, table_of(dataset), pipeline(dataset.handle), dataset.handle.chunks, dataset.stored)

    @property
    def fill(self) -> Any:
        """The value of chunks that are not in the file."""
        return self.dataset.handle.fillvalue

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk) * self.dtype.itemsize

    def decode(self, row: int, place: tuple[int, ...], into: Array) -> None:
        """Fill `into` with the chunk in `row` of the table; an edge chunk goes on behind the data."""
        table = self.table
        offset, size = int(table.offsets[row]), int(table.sizes[row])
        stored = _pread(self.dataset.file, size, offset)
        self._decode(stored, int(table.masks[row]), place, into)

    def decoded(self, row: int, place: tuple[int, ...]) -> Array:
        values = np.empty(self.chunk, self.dtype)
        self.decode(row, place, values)
        return values

    def fill_cells(self, cells: Array, into: Array, rows: Array) -> None:
        """Put the chunks in `rows` of the table, near each other in the file, into `cells`, a row for each."""
        table, width = self.table, self.chunk_bytes
        offsets, sizes = table.offsets[rows], table.sizes[rows]
        start = int(offsets.min())
        block = _pread(self.dataset.file, int((offsets + sizes).max()) - start, start)
        if not self.filters and (sizes == width).all():
            cells[into] = np.frombuffer(block, np.uint8)[(offsets - start)[:, None] + np.arange(width)]
            return
        view = memoryview(block)
        columns = (
            into.tolist(),
            rows.tolist(),
            (offsets - start).tolist(),
            sizes.tolist(),
            table.masks[rows].tolist(),
        )
        for cell, row, at, size, mask in zip(*columns, strict=True):
            place = np.unravel_index(int(table.numbers[row]), table.grid)
            values = cells[cell].view(self.dtype).reshape(self.chunk)
            self._decode(view[at : at + size], mask, tuple(map(int, place)), values)

    def _decode(self, stored: Any, mask: int, place: tuple[int, ...], into: Array) -> None:
        if self.filters and not mask and len(stored) == self.chunk_bytes and self._is_at_edge(place):
            # HDF5 can be told to leave edge chunks unfiltered, and marks them nowhere.
            into[...] = self._by_library(place)
            return
        try:
            undone(stored, self.filters, mask, into.reshape(-1).view(np.uint8))
        except DoesNotDecode as broken:
            raise self._damaged(place, broken) from broken

    def _is_at_edge(self, place: Sequence[int]) -> bool:
        ends = zip(place, self.chunk, self.dataset.shape, strict=True)
        return any((at + 1) * c > n for at, c, n in ends)

    def _by_library(self, place: tuple[int, ...]) -> Array:
        part = tuple(
            slice(at * c, min((at + 1) * c, n))
            for at, c, n in zip(place, self.chunk, self.dataset.shape, strict=True)
        )
        out = np.zeros(self.chunk, self.dtype)
        try:
            out[tuple(slice(0, each.stop - each.start) for each in part)] = self.dataset.handle[part]
        except DAMAGES as broken:
            raise self._damaged(place, broken) from broken
        return out

    def _damaged(self, place: Sequence[int], broken: BaseException) -> UnreadableSource:
        why = " ".join(str(broken).split()) or type(broken).__name__
        at = ", ".join(map(str, place))
        return UnreadableSource(
            f"{self.dataset.file.name} is damaged: chunk ({at}) of {self.dataset.path} does not decode ({why}); "
            "upload it again"
        )


_of_thread = threading.local()


def _scratch(chunked: Chunked) -> Array:
    """Room for a chunk, the thread's own until it asks again."""
    kept = getattr(_of_thread, "room", None)
    if kept is None or kept.size < chunked.chunk_bytes:
        kept = np.empty(chunked.chunk_bytes, np.uint8)
        if chunked.chunk_bytes <= _SCRATCH_BYTES:
            _of_thread.room = kept
    room: Array = kept[: chunked.chunk_bytes].view(chunked.dtype).reshape(chunked.chunk)
    return room


def _batches(table: Table, rows: Array) -> Iterator[slice]:
    """Runs of `rows`, which are in the order of the file, that are read at once."""
    if not len(rows):
        return
    begins = table.offsets[rows]
    ends = begins + table.sizes[rows]
    start = 0
    apart = np.zeros(len(rows), np.bool_)
    apart[1:] = begins[1:] - ends[:-1] > _GAP_BYTES
    breaks = [*np.nonzero(apart)[0].tolist(), len(rows)]
    for stop in breaks:
        while start < stop:
            last = int(np.searchsorted(begins[start:stop], begins[start] + _BATCH_BYTES)) + start
            yield slice(start, max(start + 1, last))
            start = max(start + 1, last)


def _pread(file: File, size: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.pread(file.fd, size, offset)
        if not part:
            raise UnreadableSource(f"{file.name} ends at byte {offset}, within its values; upload it again")
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
