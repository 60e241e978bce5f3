"""Frames and maps out of a scan: an array of four dimensions, rows and columns of points, each with a frame.

What is made is handed over as the bytes of a ``.npy`` file, which NumPy and a page's script both read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from scientistcloud.errors import InvalidParameters, NotFound
from scientistcloud.omezarr.image import Array
from scientistcloud.omezarr.pyramid import representable
from scientistcloud.omezarr.viewing import opened

MOST_BYTES = 8 << 30
"""More than that is not decoded for one answer."""
_HELD_BYTES = 32 << 20
Span = tuple[int, int]
"""Indices from the first up to, and without, the second."""


class Over(StrEnum):
    """What is left when a region has gone by."""

    #: A frame, over points of the scan.
    POINTS = "points"
    #: A map, over pixels of the detector.
    PIXELS = "pixels"


def over_region(
    array: Path,
    over: Over,
    rows: Span,
    columns: Span,
    *,
    mean: bool,
    missing: Sequence[float | int] = (),
    mask: Path | None = None,
    token: str,
) -> bytes:
    """The sum, or `mean`, of `array` over a region of points or of pixels.

    Of one point, or one pixel, the values are those that are stored (integers of 64 bits and half floats as
    doubles and floats, which a script can read). Sums are doubles; what is NaN or one of `missing` does not count,
    nor does, over pixels, one at which the frame's `mask` is not 0. Where nothing counts there is NaN.

    Raises `NotFound` beyond the array's end, `InvalidParameters` for more than can be answered at once.
    """
    stored = opened(array, token)
    first = 0 if over is Over.POINTS else 2
    if stored.rank != 4:
        raise NotFound(f"{array.name} is no scan: it has {stored.rank} dimensions")
    for (start, stop), length in zip((rows, columns), stored.shape[first : first + 2], strict=True):
        if not 0 <= start < stop <= length:
            raise NotFound(f"there are no {over} {start}:{stop} in {array.name}; they end at {length}")
    box = [(0, n) for n in stored.shape]
    box[first : first + 2] = rows, columns
    chunk = stored.chunk_layout.read_chunk.shape
    item = np.dtype(stored.dtype.numpy_dtype).itemsize
    decoded = item * prod(-(-b // c) * c - a // c * c for (a, b), c in zip(box, chunk, strict=True))
    if decoded > MOST_BYTES:
        raise InvalidParameters(f"that would read {decoded / 2**30:.0f} GiB; choose a smaller region")
    if (rows[1] - rows[0]) * (columns[1] - columns[0]) == 1:
        values = np.asarray(stored[tuple(slice(a, b) for a, b in box)].read().result())
        return _npy(values.squeeze(axis=(first, first + 1)))
    summed = (first, first + 1)
    shape = tuple(n for axis, n in enumerate(stored.shape) if axis not in summed)
    total, count = np.zeros(shape), np.zeros(shape, np.int64)
    good = None
    if mask is not None and over is Over.PIXELS:
        good = np.asarray(opened(mask, token)[slice(*rows), slice(*columns)].read().result()) == 0
    for part in _parts(box, chunk, item):
        values = np.asarray(stored[tuple(slice(a, b) for a, b in part)].read().result())
        there = _there(values, missing)
        if good is not None:
            there = np.broadcast_to(good, values.shape) if there is None else there & good
        into = tuple(slice(*span) for axis, span in enumerate(part) if axis not in summed)
        if there is None:
            total[into] += values.sum(axis=summed, dtype=np.float64)
            count[into] += values.shape[first] * values.shape[first + 1]
        else:
            total[into] += values.sum(axis=summed, dtype=np.float64, where=there)
            count[into] += there.sum(axis=summed)
    return _npy(np.divide(total, count if mean else 1, out=np.full(shape, np.nan), where=count > 0))


def whole_image(array: Path, *, token: str) -> bytes:
    """All values of an array of two dimensions. Raises `NotFound`, `InvalidParameters`."""
    stored = opened(array, token)
    if stored.rank != 2:
        raise NotFound(f"{array.name} has {stored.rank} dimensions, not two")
    if prod(stored.shape) * 8 > MOST_BYTES >> 4:
        raise InvalidParameters(f"{array.name} is too large to be shown at once")
    return _npy(np.asarray(stored.read().result()))


def _parts(box: Sequence[Span], chunk: Sequence[int], item: int) -> Iterator[list[Span]]:
    """`box` in parts along its rows of points, whole chunks each, so that little is held."""
    (start, stop), *rest = box
    row_bytes = item * prod(b - a for a, b in rest)
    step = max(1, _HELD_BYTES // (row_bytes * chunk[0])) * chunk[0]
    at = start
    while at < stop:
        end = min(stop, (at // step + 1) * step)
        yield [(at, end), *rest]
        at = end


def _there(values: Array, missing: Sequence[float | int]) -> Array | None:
    """Which values count; None: all of them."""
    marks = representable(missing, values.dtype)
    if values.dtype.kind != "f" and not marks:
        return None
    there = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    for mark in marks:
        there &= values != mark
    return there


def _npy(values: Array) -> bytes:
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        values = values.astype(np.float64)
    elif values.dtype == np.float16:
        values = values.astype(np.float32)
    elif values.dtype == bool:
        values = values.astype(np.uint8)
    little: np.dtype[Any] = values.dtype.newbyteorder("<")
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(values, little))
    return out.getvalue()
