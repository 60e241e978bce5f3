"""The pass over the values of one image: read, write, halve, and so on down the levels, in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from threading import Condition, Lock
from typing import Any

import numpy as np
import tensorstore as ts

from scientistcloud.errors import BrokenPlugin
from scientistcloud.omezarr.grid import Box, Walk, boxes
from scientistcloud.omezarr.image import Array, Reduction, Region
from scientistcloud.omezarr.pyramid import Level, downsample
from scientistcloud.omezarr.statistics import Tally

_PATIENCE_SECONDS = 0.1  # between two looks at whether the conversion was cancelled
_MOST_THREADS = 8


def opened(path: Path, context: Any = None) -> Any:
    """The array whose `zarr.json` lies in `path`, for writing; what is written is not synced."""
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return ts.open(spec, open=True, context=context or _context(2)).result()


def cores() -> int:
    """How many threads read, and how many write; at least two, for the two wait for each other."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return max(2, min(_MOST_THREADS, usable))


def _context(threads: int) -> Any:
    return ts.Context(
        {
            "data_copy_concurrency": {"limit": threads},
            "file_io_concurrency": {"limit": 4},
            "file_io_sync": False,  # `Stream` syncs each shard when its memory is free again
            "cache_pool": {"total_bytes_limit": 0},
        }
    )


@dataclass(slots=True)
class Progress:
    """Progress over all images of a store, by bytes of level 0."""

    total_bytes: int
    report: Callable[[float, str], None]
    step: str = ""
    #: Read and written bytes count a half each.
    done_bytes: float = 0.0

    def tell(self) -> None:
        self.report(0.97 * self.done_bytes / max(1, self.total_bytes), self.step)


@dataclass(slots=True)
class _Filling:
    """A shard that is not complete yet."""

    buffer: Array
    missing: int


@dataclass(kw_only=True)
class Stream:
    """One image on its way into its levels."""

    read: Callable[[Region], Array]
    #: The folders of the arrays, one for each level; their `zarr.json` is there.
    arrays: Sequence[Path]
    levels: Sequence[Level]
    shards: Sequence[Box]
    dtype: np.dtype[Any]
    reduction: Reduction
    fill: Sequence[float | int]
    tally: Tally
    tally_level: int
    _held_bytes: int = 0
    _failure: BaseException | None = None
    _pending: int = 0
    _changed: Condition = field(default_factory=Condition)

    def run(self, walk: Walk, held_bytes: int, *, progress: Progress) -> None:
        """Write every level. At most `held_bytes` (or one slab) of level 0 are held at a time.

        Raises what the reader or the disk raised, or what `progress.report` did, after every thread has stopped.
        """
        threads = cores()
        context = _context(threads)
        self._stores = [opened(path, context) for path in self.arrays]
        self._filling: list[dict[Box, _Filling]] = [{} for _ in self.levels]
        self._lock = Lock()
        self._progress = progress
        slab_bytes = prod(walk.slab) * self.dtype.itemsize
        self._budget_bytes = max(held_bytes, slab_bytes)
        with (
            ThreadPoolExecutor(threads, "sync") as self._syncers,
            ThreadPoolExecutor(threads, "read") as self._readers,
            ThreadPoolExecutor(threads, "write") as self._writers,
        ):
            try:
                for slab in walk.slabs():
                    for piece in walk.pieces(slab):
                        self._wait(_bytes(piece, self.dtype), most_pending=3 * threads)
                        self._submit(self._readers, self._read, piece)
                self._wait_for_all()
            except BaseException as failure:
                self._fail(failure)
                raise
        assert not any(self._filling), "shards were left half full"

    # -- the main thread: gives out pieces, tells progress -----------------------------------

    def _wait(self, wanted_bytes: int, *, most_pending: int) -> None:
        """Until there is room for so many bytes more."""
        self._until(lambda: self._held_bytes + wanted_bytes <= self._budget_bytes and self._pending <= most_pending)
        with self._changed:
            self._held_bytes += wanted_bytes

    def _wait_for_all(self) -> None:
        self._until(lambda: self._pending == 0)

    def _until(self, met: Callable[[], bool]) -> None:
        while True:
            self._progress.tell()
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                if met():
                    return
                self._changed.wait(_PATIENCE_SECONDS)

    # -- the threads ---------------------------------------------------------------------------

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[..., None], *arguments: Any) -> None:
        with self._changed:
            if self._failure is not None:
                return
            self._pending += 1
        pool.submit(self._guarded, work, *arguments)

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            if self._failure is None:
                work(*arguments)
        except BaseException as failure:  # noqa: BLE001 - raised again by the main thread
            self._fail(failure)
        finally:
            with self._changed:
                self._pending -= 1
                self._changed.notify_all()

    def _fail(self, failure: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    def _read(self, piece: Region) -> None:
        values = self.read(piece)
        shape = tuple(s.stop - s.start for s in piece)
        if values.shape != shape or values.dtype != self.dtype:
            raise BrokenPlugin(
                f"the reader gave {values.dtype} {values.shape} where it described {self.dtype} {shape}; mend it"
            )
        self._count(values.nbytes)
        self._put(0, tuple(s.start for s in piece), values)

    def _put(self, level: int, start: Box, values: Array) -> None:
        """Copy `values` into the shards of `level` that they touch; those that are complete go on."""
        for index, into, part in boxes(start, values.shape, self.shards[level]):
            filling = self._shard(level, index)
            filling.buffer[into] = values[part]
            with self._lock:
                filling.missing -= prod(s.stop - s.start for s in into)
                complete = filling.missing == 0
                if complete:
                    del self._filling[level][index]
            if complete:
                self._submit(self._writers, self._write, level, index, filling.buffer)

    def _shard(self, level: int, index: Box) -> _Filling:
        with self._lock:
            if index not in self._filling[level]:
                shape = tuple(
                    min(s, n - i * s)
                    for i, s, n in zip(index, self.shards[level], self.levels[level].shape, strict=True)
                )
                # Not zeroed: its pages become real only as values arrive.
                self._filling[level][index] = _Filling(np.empty(shape, self.dtype), prod(shape))
            return self._filling[level][index]

    def _write(self, level: int, index: Box, values: Array) -> None:
        """Write one whole shard; while tensorstore compresses it, make its part of the next level."""
        start = tuple(i * s for i, s in zip(index, self.shards[level], strict=True))
        region = tuple(slice(a, a + n) for a, n in zip(start, values.shape, strict=True))
        written = self._stores[level][region].write(values, can_reference_source_data_indefinitely=True)
        try:
            if level == self.tally_level:
                self.tally.add(start, values)
            if level + 1 < len(self.levels):
                steps = self.levels[level + 1].steps
                half = downsample(values, steps, reduction=self.reduction, fill=self.fill)
                self._put(level + 1, tuple(a // step for a, step in zip(start, steps, strict=True)), half)
        finally:
            written.result()
        if level == 0:
            self._count(values.nbytes)
            with self._changed:
                self._held_bytes -= values.nbytes
                self._changed.notify_all()
        self._submit(self._syncers, self._sync, self.arrays[level].joinpath("c", *map(str, index)))

    def _sync(self, shard: Path) -> None:
        """Make a shard durable. One that holds nothing but the fill value has no file."""
        if shard.exists():
            sync(shard)

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self._progress.done_bytes += size_bytes / 2


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _bytes(region: Region, dtype: np.dtype[Any]) -> int:
    voxels: int = prod(s.stop - s.start for s in region)
    return voxels * dtype.itemsize
