"""The window and the histogram of an image, gathered while its levels are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from threading import Lock
from typing import Any

import numpy as np

from scientistcloud.omezarr.image import Array, AxisKind, Image
from scientistcloud.omezarr.pyramid import Level, representable, valid

VOXELS = 1 << 24
"""Statistics come from the finest level with at most so many."""
SAMPLES = 1 << 22
"""Of values that cannot be counted one by one (more than 16 bits), so many are kept, evenly spread."""
BINS = 256
_STEP = 1 << 20  # values handled at once: np.bincount makes 8 bytes of each


@dataclass(frozen=True, slots=True)
class Window:
    """What is shown of a channel, in stored values: `start` is black and `end` white, `min` to `max` the range."""

    min: float
    max: float
    start: float
    end: float

    def as_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in `BINS` bins of equal width from `low` to `high`; what lies beyond is left out."""

    low: float
    high: float
    counts: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def level_for_statistics(levels: Sequence[Level]) -> int:
    """The finest level of at most `VOXELS`, else the last."""
    return next((k for k, level in enumerate(levels) if prod(level.shape) <= VOXELS), len(levels) - 1)


class Tally:
    """Counts the values of one level of an image, a channel each; safe between threads.

    Fill values, NaN, infinities and what lies outside `valid_range` do not count. What is kept of a block does
    not depend on the order in which blocks come.
    """

    def __init__(self, image: Image, level: Level) -> None:
        self._image = image
        self._channel = next((i for i, axis in enumerate(image.axes) if axis.kind is AxisKind.CHANNEL), None)
        dtype = image.dtype
        self._marks = representable(image.fill, dtype)
        #: Small integers are counted one by one, from this value on.
        self._lowest = int(np.iinfo(dtype).min) if dtype.kind in "iu" and dtype.itemsize <= 2 else 0
        self._countable = dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize <= 2)
        self._every = -(-prod(level.shape) // SAMPLES)
        channels = 1 if self._channel is None else image.axes[self._channel].length
        span = 2 if dtype.kind == "b" else 2 ** (8 * min(dtype.itemsize, 2))
        self._counts = [np.zeros(span if self._countable else 0, np.int64) for _ in range(channels)]
        self._kept: list[dict[tuple[int, ...], Array]] = [{} for _ in range(channels)]
        self._lock = Lock()

    def add(self, start: tuple[int, ...], block: Array) -> None:
        """Count `block`, whose first value lies at `start` of the level."""
        if self._channel is None:
            self._add(0, start, block)
            return
        for i, part in enumerate(np.moveaxis(block, self._channel, 0)):
            self._add(start[self._channel] + i, start, part)

    def _add(self, channel: int, start: tuple[int, ...], block: Array) -> None:
        flat = block.reshape(-1)
        if not self._countable:
            kept = self._good(flat[:: self._every])
            with self._lock:
                self._kept[channel][start] = kept
            return
        counts = np.zeros_like(self._counts[channel])
        for i in range(0, flat.size, _STEP):
            good = self._good(flat[i : i + _STEP])
            counts += np.bincount(good.astype(np.int64) - self._lowest, minlength=counts.size)
        with self._lock:
            self._counts[channel] += counts

    def _good(self, values: Array) -> Array:
        good = valid(values, self._marks)
        values = values if good is None else values[good]
        if values.dtype.kind == "c":
            values = np.abs(values)
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        if (limits := self._image.valid_range) is not None and values.dtype.kind != "b":
            values = values[(values >= limits[0]) & (values <= limits[1])]
        return values

    def windows(self) -> tuple[Window, ...]:
        """One for each channel; one for all of them where they are red, green and blue."""
        channels = [self._values(i) for i in range(len(self._counts))]
        if not self._image.rgb:
            return tuple(self._window(*each) for each in channels)
        if self._image.dtype == np.uint8:
            return (Window(0, 255, 0, 255),) * len(channels)
        top = max((float(values.max()) for values, _ in channels[:3] if values.size), default=1.0)
        return (Window(0, top or 1.0, 0, top or 1.0),) * len(channels)

    def histograms(self) -> tuple[Histogram, ...]:
        """One for each channel, over its window and as much again on both sides, where there is data."""
        return tuple(self._histogram(*self._values(i), window) for i, window in enumerate(self.windows()))

    def _values(self, channel: int) -> tuple[Array, Array | None]:
        """Sorted values and how often each occurs (None: once each)."""
        if self._countable:
            counts = self._counts[channel]
            present = np.flatnonzero(counts)
            return present + self._lowest, counts[present]
        kept = self._kept[channel]
        return np.sort(np.concatenate([kept[start] for start in sorted(kept)] or [np.empty(0)])), None

    def _window(self, values: Array, counts: Array | None) -> Window:
        limits = self._image.valid_range
        if not values.size:
            return Window(*(limits or (0.0, 1.0)), *(limits or (0.0, 1.0)))
        low, high = limits or (float(values[0]), float(values[-1]))
        dtype = self._image.dtype
        if counts is not None and dtype.kind == "u" and len(values) > 1 and values[-1] == np.iinfo(dtype).max:
            values, counts = values[:-1], counts[:-1]  # saturated
        if counts is None:
            # The smallest value with at least that share at or below it, as for counted values below.
            start, end = (float(values[max(0, int(np.ceil(share * len(values))) - 1)]) for share in (0.01, 0.99))
        else:
            reached = np.cumsum(counts)
            start, end = (float(values[np.searchsorted(reached, share * reached[-1])]) for share in (0.01, 0.99))
        if end <= start:  # (almost) constant: the viewer needs a range
            start, end = (low, high) if high > low else _apart(low)
        return Window(low if high > low else start, high if high > low else end, start, end)

    def _histogram(self, values: Array, counts: Array | None, window: Window) -> Histogram:
        # In quarters, because differences of the greatest doubles overflow.
        width = window.end / 4 - window.start / 4
        low = max(window.min / 4, window.start / 4 - width)
        high = min(window.max / 4, window.end / 4 + width)
        if high - low < (least := _least_width(max(abs(low), abs(high)))):
            low, high = (high - least, high) if low > 0 else (low, low + least)
        bins, _ = np.histogram(values.astype(np.float64) / 4, bins=BINS, range=(low, high), weights=counts)
        return Histogram(4 * low, 4 * high, tuple(int(n) for n in bins))


def _least_width(value: float) -> float:
    """Of a range at `value`: bins narrower than what lies between two doubles are none."""
    return max(2 * BINS * float(np.finfo(np.float64).eps) * abs(value), 1e-300)


def _apart(value: float) -> tuple[float, float]:
    """A range from or to a constant, within the doubles."""
    width = max(1.0, _least_width(value))
    return (value, value + width) if value < 1e300 else (value - width, value)
