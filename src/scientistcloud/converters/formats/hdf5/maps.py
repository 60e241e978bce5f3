"""What a scan of frames is looked at by: a value for each point of the scan, and frames over all of its points.

All of it is made of one look at each value, a block (a shard of the array that is written) at a time, in any order.
What is made of each block is added up in the order of the blocks, so that a second time gives the same to the last
bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from threading import Lock
from typing import Any

import numpy as np

from scientistcloud.omezarr.image import Array, Region

_STEP_VALUES = 1 << 20  # looked at at once
Box = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """What one block adds."""

    #: Where its first value lies.
    start: Box
    #: Sum, and sums weighted by row and column of the frame, for each point of the scan: (3, rows, columns).
    points: Array
    #: Sum, number (one for all pixels of integers) and maximum over the points of the scan.
    total: Array
    count: Array
    most: Array


class Maps:
    """Made while the array goes by."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        block: Box,
        there: Array,
        good: Array | None,
        read: Callable[[Region], Array],
    ) -> None:
        """`there`: at which points of the scan there is a frame; `good`: which pixels count, None: all of them."""
        self._shape, self._dtype, self._block = shape, dtype, block
        self._there, self._good, self._read = there, good, read
        self._grid = tuple(-(-n // b) for n, b in zip(shape, block, strict=True))
        # Sums of integers are exact, and so are their sums weighted by the pixel's number.
        wide = np.dtype(np.float64) if dtype.kind == "f" or dtype.itemsize > 4 else np.dtype(f"{dtype.kind}8")
        self._points: Array = np.zeros((3, *shape[:2]))
        self._total: Array = np.zeros(shape[2:], wide)
        # How many frames there are is the same for each pixel of integers, which are never NaN.
        self._count: Array = np.zeros(shape[2:] if dtype.kind == "f" else (1, 1), np.int32)
        self._least: Any = np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf
        self._most: Array = np.full(shape[2:], self._least, dtype)
        self._wide = wide
        self._waiting: dict[int, _Part] = {}
        self._next = 0
        self._lock = Lock()
        self._finishing = Lock()

    def see(self, start: Box, values: Array) -> None:
        """Take a block in; a block that was seen before adds nothing. Safe between threads."""
        place = tuple(a // b for a, b in zip(start, self._block, strict=True))
        number = int(np.ravel_multi_index(place, self._grid))
        part = self._part(start, values)
        with self._lock:
            if number < self._next:
                return
            self._waiting[number] = part
            while self._next in self._waiting:
                self._add(self._waiting.pop(self._next))
                self._next += 1

    def get(self, name: str, region: Region) -> Array:
        """A part of an image by its name; what was not seen of the array yet is read."""
        self._finish()
        with np.errstate(all="ignore"):
            if name.endswith("_frame"):
                known = (self._count[region] if self._dtype.kind == "f" else self._count) > 0
                if name == "mean_frame":
                    count = self._count[region] if self._dtype.kind == "f" else self._count
                    return np.where(known, self._total[region] / count, np.nan)
                nothing: Any = np.nan if self._dtype.kind == "f" else 0
                return np.where(known, self._most[region], self._dtype.type(nothing))
            there = self._there[region]
            total, y, x = (each[region] for each in self._points)
            if name == "sum":
                return np.where(there, total, np.nan)
            return np.where(there & (total != 0), (y if name.endswith("_y") else x) / total, np.nan)

    def _finish(self) -> None:
        with self._finishing:
            for number in range(self._next, math.prod(self._grid)):
                if number >= self._next and number not in self._waiting:
                    place = np.unravel_index(number, self._grid)
                    start = tuple(int(p) * b for p, b in zip(place, self._block, strict=True))
                    region = tuple(
                        slice(a, min(a + b, n)) for a, b, n in zip(start, self._block, self._shape, strict=True)
                    )
                    self.see(start, self._read(region))

    def _part(self, start: Box, values: Array) -> _Part:
        rows, columns, height, width = values.shape
        wide = self._wide
        points = np.zeros((3, rows, columns))
        total = np.zeros((height, width), wide)
        count = np.zeros((height, width) if self._dtype.kind == "f" else (1, 1), np.int32)
        most = np.full((height, width), self._least, self._dtype)
        ys = np.arange(start[2], start[2] + height).astype(wide)
        xs = np.arange(start[3], start[3] + width).astype(wide)
        inner = tuple(slice(a, a + n) for a, n in zip(start[2:], (height, width), strict=True))
        good = None if self._good is None else self._good[inner]
        there = self._there[start[0] : start[0] + rows, start[1] : start[1] + columns]
        for row, part in product(range(rows), _steps(columns, height * width)):
            here = there[row, part]
            frames = values[row, part][here]
            if not len(frames):
                continue
            if self._dtype.kind == "f":
                known = ~np.isnan(frames)
                count += known.sum(axis=0, dtype=np.int32)
                most = np.fmax(most, np.fmax.reduce(frames, axis=0))
                frames = np.where(known, frames, frames.dtype.type(0))
            else:
                count += len(frames)
                most = np.maximum(most, frames.max(axis=0))
            total += frames.sum(axis=0, dtype=wide)
            if good is not None:
                frames = np.where(good, frames, frames.dtype.type(0))
            by_row, by_column = frames.sum(axis=2, dtype=wide), frames.sum(axis=1, dtype=wide)
            made = np.stack([by_row.sum(axis=1), (by_row * ys).sum(axis=1), (by_column * xs).sum(axis=1)])
            at = np.arange(columns)[part][here]
            points[:, row, at] = made
        return _Part(start, points, total, count, most)

    def _add(self, part: _Part) -> None:
        rows, columns = part.points.shape[1:]
        y, x = (slice(a, a + n) for a, n in zip(part.start[2:], part.total.shape, strict=True))
        if self._dtype.kind == "f":
            self._count[y, x] += part.count
        elif not any(part.start[2:]):
            self._count += part.count
        self._points[:, part.start[0] : part.start[0] + rows, part.start[1] : part.start[1] + columns] += (
            part.points
        )
        self._total[y, x] += part.total
        most = self._most[y, x]
        self._most[y, x] = np.fmax(most, part.most) if self._dtype.kind == "f" else np.maximum(most, part.most)


def _steps(columns: int, frame_values: int) -> Iterator[slice]:
    step = max(1, _STEP_VALUES // max(1, frame_values))
    for start in range(0, columns, step):
        yield slice(start, min(start + step, columns))
