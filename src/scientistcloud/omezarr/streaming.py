"""The pass over the values of one image: read, write, halve, and so on down the levels, in threads."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod
from threading import Condition, Lock
from typing import Any

import numpy as np

from scientistcloud.errors import BrokenPlugin
from scientistcloud.omezarr.disk import sync
from scientistcloud.omezarr.grid import Box, Walk, boxes
from scientistcloud.omezarr.image import Array, Reduction, Region
from scientistcloud.omezarr.pyramid import Level, downsample
from scientistcloud.omezarr.shards import ShardedArray
from scientistcloud.omezarr.statistics import Tally

_PATIENCE_SECONDS = 0.1  # between two looks at whether the conversion was cancelled
_MOST_THREADS = 8
_MIB = 1 << 20
_MARK_SECONDS, _RATE_SECONDS = 0.5, 10.0


def cores() -> int:
    """How many threads read, and how many write; at least two, for the two wait for each other."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return max(2, min(_MOST_THREADS, usable))


@dataclass(slots=True)
class Progress:
    """Progress over all images of a store, by bytes of level 0, with the rate and the time that is left."""

    total_bytes: int
    report: Callable[[float, str], None]
    step: str = ""
    #: Read and written bytes count a half each.
    done_bytes: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _marks: deque[tuple[float, float]] = field(default_factory=deque)

    def tell(self) -> None:
        self.report(0.97 * self.done_bytes / max(1, self.total_bytes), self.step + self._how_far())

    def _how_far(self) -> str:
        """The rate is that of the last ten seconds: a disk that becomes slow is seen."""
        now = self.clock()
        if not self._marks or now - self._marks[-1][0] >= _MARK_SECONDS:
            self._marks.append((now, self.done_bytes))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_SECONDS:
            self._marks.popleft()
        began, had = self._marks[0]
        text = f": {in_words(self.done_bytes, self.total_bytes)}"
        if now - began < _MARK_SECONDS or self.done_bytes <= had:
            return text
        rate = (self.done_bytes - had) / (now - began)
        left = (self.total_bytes - self.done_bytes) / rate
        return f"{text}, {rate / _MIB:,.0f} MiB/s, {time_in_words(left)} left"


def in_words(done_bytes: float, total_bytes: int) -> str:
    """``1.2 of 16.0 GiB``."""
    unit, name = (1 << 30, "GiB") if total_bytes >= 1 << 30 else (_MIB, "MiB")
    return f"{done_bytes / unit:,.1f} of {total_bytes / unit:,.1f} {name}"


def time_in_words(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@dataclass(frozen=True, slots=True)
class Watcher:
    """Somebody who is shown each shard instead of a tally."""

    seen: Callable[[Box, Array], None] | None

    def add(self, start: Box, block: Array) -> None:
        if self.seen is not None:
            self.seen(start, block)


@dataclass(slots=True)
class _Filling:
    """A shard that is not complete yet."""

    buffer: Array
    missing: int


@dataclass(kw_only=True)
class Stream:
    """One image on its way into its levels."""

    read: Callable[[Region], Array]
    #: One for each level; their `zarr.json` is there.
    arrays: Sequence[ShardedArray]
    levels: Sequence[Level]
    reduction: Reduction
    fill: Sequence[float | int]
    tally: Tally | Watcher
    tally_level: int
    #: Of level 0, and of the coarser levels, what is in memory.
    _held_bytes: int = 0
    _coarse_bytes: int = 0
    _failure: BaseException | None = None
    _pending: int = 0
    _changed: Condition = field(default_factory=Condition)

    def run(self, walk: Walk, held_bytes: int, *, progress: Progress) -> None:
        """Write every level. At most `held_bytes` are held of all levels, but one slab of level 0 always fits.

        Raises what the reader or the disk raised, or what `progress.report` did, after every thread has stopped.
        """
        threads = cores()
        self.dtype = self.arrays[0].dtype
        self._filling: list[dict[Box, _Filling]] = [{} for _ in self.levels]
        self._lock = Lock()
        self._progress = progress
        self._budget_bytes = held_bytes
        self._slab_bytes = prod(walk.slab) * self.dtype.itemsize
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
        """Until there is room for so many bytes more; a slab that was begun can always be completed."""

        def room() -> bool:
            held = self._held_bytes + wanted_bytes
            fits = held <= self._slab_bytes or held + self._coarse_bytes <= self._budget_bytes
            return fits and self._pending <= most_pending

        self._until(room)
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
        for index, shard in self._put(0, tuple(s.start for s in piece), values):
            self._submit(self._writers, self._write, 0, index, shard)

    def _put(self, level: int, start: Box, values: Array) -> list[tuple[Box, Array]]:
        """Copy `values` into the shards of `level` that they touch; give those that are complete."""
        complete = []
        for index, into, part in boxes(start, values.shape, self.arrays[level].shard):
            filling = self._shard(level, index)
            filling.buffer[into] = values[part]
            with self._lock:
                filling.missing -= prod(s.stop - s.start for s in into)
                if filling.missing == 0:
                    del self._filling[level][index]
                    complete.append((index, filling.buffer))
        return complete

    def _shard(self, level: int, index: Box) -> _Filling:
        with self._lock:
            if index not in self._filling[level]:
                shape = tuple(
                    min(s, n - i * s)
                    for i, s, n in zip(index, self.arrays[level].shard, self.levels[level].shape, strict=True)
                )
                # Not zeroed: its pages become real only as values arrive.
                filling = self._filling[level][index] = _Filling(np.empty(shape, self.dtype), prod(shape))
                self._coarse_bytes += filling.buffer.nbytes if level else 0
            return self._filling[level][index]

    def _write(self, level: int, index: Box, values: Array) -> None:
        """Write one whole shard, and at once what it completes of the next levels: so that little is held."""
        array = self.arrays[level]
        start = tuple(i * s for i, s in zip(index, array.shard, strict=True))
        shard = array.write(index, values)
        if level == self.tally_level:
            self.tally.add(start, values)
        complete = []
        if level + 1 < len(self.levels):
            steps = self.levels[level + 1].steps
            half = downsample(values, steps, reduction=self.reduction, fill=self.fill)
            complete = self._put(level + 1, tuple(a // step for a, step in zip(start, steps, strict=True)), half)
            del half
        size_bytes = values.nbytes
        del values
        self._let_go(level, size_bytes)
        if shard is not None:
            self._submit(self._syncers, sync, shard)
        while complete:
            self._write(level + 1, *complete.pop())

    def _let_go(self, level: int, size_bytes: int) -> None:
        if level == 0:
            self._count(size_bytes)
        with self._changed:
            if level == 0:
                self._held_bytes -= size_bytes
            else:
                self._coarse_bytes -= size_bytes
            self._changed.notify_all()

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self._progress.done_bytes += size_bytes / 2


def _bytes(region: Region, dtype: np.dtype[Any]) -> int:
    voxels: int = prod(s.stop - s.start for s in region)
    return voxels * dtype.itemsize
