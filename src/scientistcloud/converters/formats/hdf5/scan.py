"""Frames of a detector at the points of a scan, as one array of four dimensions: rows, columns, the frame's two.

Many files hold the frames one after the other; rows and columns are then said elsewhere, or by a person, and a scan
that ended early has fewer frames than points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.formats.hdf5.axes import Axes, ReadAll, Scale, physical
from scientistcloud.converters.formats.hdf5.plots import Plot
from scientistcloud.converters.formats.hdf5.tree import Dataset, Group, Tree
from scientistcloud.converters.formats.hdf5.values import Values
from scientistcloud.errors import InvalidParameters, UnsupportedSource
from scientistcloud.omezarr.image import Array, Region

SENSOR = "4D_NEXUS"
_SHAPES = ("scan_shape", "scan_dimensions", "scan_size")
_MISSING = -1


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Where each point of a scan lies in a data set."""

    plot: Plot
    axes: Axes
    #: Number of the frame at each row and column, counted over the dimensions of the scan; -1: there is none.
    frames: Array
    #: What stands where there is no frame.
    fill: float | int
    #: How rows and columns are known, for people.
    why: str

    @property
    def dataset(self) -> Dataset:
        return self.plot.signal

    @property
    def flat(self) -> bool:
        """Whether the frames come one after the other."""
        return len(self.dataset.shape) == 3

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.frames.shape, *self.dataset.shape[-2:])

    @property
    def missing(self) -> int:
        return int((self.frames == _MISSING).sum())

    def read(self, values: Values, region: Region) -> Array:
        """As stored, in native byte order."""
        rows, columns, *inner = region
        wanted = self.frames[rows, columns]
        if not self.flat and not self.missing:
            return values.read(self.dataset, region)
        shape = [part.stop - part.start for part in inner]
        out = np.empty((wanted.size, *shape), self.dataset.dtype)
        for place, first, count, step in _runs(wanted.reshape(-1)):
            target = out[place : place + count]
            if first == _MISSING:
                target[...] = self.fill
                continue
            for at, index, length in self._boxes(min(first, first + step * (count - 1)), count):
                block = values.read(self.dataset, (*index, *inner)).reshape(length, *shape)
                (target if step > 0 else target[::-1])[at : at + length] = block
        return out.reshape(*wanted.shape, *shape)

    def _boxes(self, first: int, count: int) -> Iterator[tuple[int, tuple[slice, ...], int]]:
        """Frames `first` … as boxes of the data set; where in the run each begins, and how many it has."""
        if self.flat:
            yield 0, (slice(first, first + count),), count
            return
        done, width = 0, self.dataset.shape[1]
        while done < count:
            row, column = divmod(first + done, width)
            length = min(count - done, width - column)
            yield done, (slice(row, row + 1), slice(column, column + length)), length
            done += length


def scan_of(plot: Plot, tree: Tree, axes: Axes, options: ReadOptions, read_all: ReadAll) -> Scan | None:
    """`plot` as a scan; None where it is none.

    It is one where NeXus says so (four dimensions, of which the last two lie in an NXdetector; or frames one after
    the other for which the file knows rows and columns), and where a person does. Raises `InvalidParameters` for
    rows and columns that do not fit, `UnsupportedSource` where they are not known.
    """
    shape, asked = plot.signal.shape, options.scan is not None or options.sensor == SENSOR
    if options.sensor not in (None, SENSOR) or plot.signal.dtype.kind not in "iuf":
        return None
    if len(shape) not in (3, 4) or (not asked and not _in_detector(plot, tree, axes)):
        return None
    flat = len(shape) == 3
    count = math.prod(shape[:-2])
    if options.scan is not None:
        return _laid_out(plot, axes, options.scan, count, "it was said so")
    said = _shape_said(plot, tree, count, flat=flat)
    if said is not None:
        return _laid_out(plot, axes, *said)
    if not flat:
        frames = np.arange(count).reshape(shape[:2])
        return Scan(plot, axes, frames, _fill(plot.signal), "the array has rows and columns")
    found = _from_positions(axes, count, read_all)
    if found is not None:
        return Scan(plot, axes, *found[:1], _fill(plot.signal), found[1])
    if asked:
        raise UnsupportedSource(
            f"{plot.signal.file.name}: {plot.path} holds {count} frames and the file does not say in how many rows "
            "and columns; name them, for example --scan 3x4"
        )
    return None


def _laid_out(plot: Plot, axes: Axes, rows_columns: Sequence[int], count: int, why: str) -> Scan:
    rows, columns = rows_columns
    have = plot.signal.shape
    if rows * columns < count or (len(have) == 4 and rows * columns > count and columns != have[1]):
        raise InvalidParameters(
            f"{rows} rows of {columns} columns do not fit the {count} points of {plot.path}; name others"
        )
    frames = np.arange(rows * columns)
    frames[count:] = _MISSING
    return Scan(plot, axes, frames.reshape(rows, columns), _fill(plot.signal), why)


def _fill(signal: Dataset) -> float | int:
    """What a missing frame is filled with: NaN, or the file's own fill value, or what no detector counts to."""
    if signal.dtype.kind == "f":
        return math.nan
    for key in ("_FillValue", "missing_value"):
        value = np.ravel(np.asarray(signal.attributes.get(key, ())))
        if value.size == 1 and value.dtype.kind in "iu" and value.astype(signal.dtype) == value:
            return int(value[0])
    limits = np.iinfo(signal.dtype)
    return int(limits.max if signal.dtype.kind == "u" else limits.min)


def _runs(numbers: Array) -> Iterator[tuple[int, int, int, int]]:
    """Runs of frames that can be read at once: where each begins, its first frame, its length, and 1, -1 or 0."""
    start = 0
    steps = np.diff(numbers)
    missing = numbers == _MISSING
    while start < len(numbers):
        if missing[start]:
            step = 0
        else:
            step = (
                int(steps[start]) if start < len(steps) and abs(steps[start]) == 1 and not missing[start + 1] else 1
            )
        stop = start + 1
        while stop < len(numbers) and steps[stop - 1] == step and bool(missing[stop]) == bool(missing[start]):
            stop += 1
        yield start, int(numbers[start]), stop - start, step
        start = stop


# -- what the file says ----------------------------------------------------------------------------


def _in_detector(plot: Plot, tree: Tree, axes: Axes) -> bool:
    """Whether the signal, or the coordinates of its last two dimensions, lie in an NXdetector."""
    detectors = [group for group in tree.groups if group.nx_class == "NXdetector"]
    signal = plot.signal
    if plot.group is None:
        return False
    paths = (plot.group.path, signal.word("target"), signal.path)
    if _held(signal, tree) or any(path.startswith(f"{group.path}/") for group in detectors for path in paths):
        return True
    last = range(len(signal.shape) - 2, len(signal.shape))
    scales = [axes.along(dim) for dim in last]
    return all(scale is not None and _held(scale.dataset, tree) for scale in scales)


def _held(dataset: Dataset, tree: Tree) -> bool:
    return any(holder.nx_class == "NXdetector" for holder in tree.holders.get(dataset.key, []))


def _shape_said(plot: Plot, tree: Tree, count: int, *, flat: bool) -> tuple[tuple[int, int], int, str] | None:
    """Rows and columns that the group, an entry or a data set of the file names, where the frames fit them."""
    places: list[tuple[str, Any]] = []
    groups: list[Group] = [*([plot.group] if plot.group else []), *tree.groups]
    for group in groups:
        for name in _SHAPES:
            places.append((f"{group.path}@{name}", group.attributes.get(name)))
            dataset = group.dataset(name)
            if (
                dataset is not None
                and dataset.is_numeric
                and dataset.outside is None
                and math.prod(dataset.shape) == 2
            ):
                places.append((dataset.path, np.ravel(dataset.handle[()])))
    for where, value in places:
        numbers = np.ravel(np.asarray(value if value is not None else ()))
        if numbers.size != 2 or numbers.dtype.kind not in "iuf" or not (numbers >= 1).all():
            continue
        rows, columns = int(numbers[0]), int(numbers[1])
        fits = count <= rows * columns if flat else plot.signal.shape[1] == columns and plot.signal.shape[0] <= rows
        if fits:
            return (rows, columns), count, f"{where} says {rows} rows of {columns}"
    return None


def _from_positions(axes: Axes, count: int, read_all: ReadAll) -> tuple[Array, str] | None:
    """Rows and columns from two coordinates along the frames, of which one stands still while the other moves.

    Also where each second row was measured backwards, and where the last row is not complete.
    """
    along = [scale for scale in axes.scales if scale.dims == (0,) and not scale.edges]
    for slow in along:
        for fast in along:
            if slow is fast:
                continue
            frames = _raster(_positions(slow, read_all), _positions(fast, read_all), count)
            if frames is not None:
                return frames, f"{slow.name} stands still while {fast.name} moves"
    return None


def _positions(scale: Scale, read_all: ReadAll) -> Array:
    return physical(scale, read_all(scale.dataset).reshape(-1))


def _raster(slow: Array, fast: Array, count: int) -> Array | None:
    if (
        count < 4
        or not np.isfinite(slow).all()
        or not np.isfinite(fast).all()
        or not np.ptp(slow)
        or not np.ptp(fast)
    ):
        return None
    # Encoders tremble: what is less than a tenth of a step is no step.
    jumps = np.abs(np.diff(slow))
    (ends,) = np.nonzero(jumps > 0.5 * jumps.max())
    columns = int(ends[0]) + 1 if len(ends) else 0
    if columns < 2 or columns >= count:
        return None
    rows = -(-count // columns)
    frames: Array = np.arange(rows * columns).reshape(rows, columns)
    frames[frames >= count] = _MISSING
    tolerance = 0.2 * np.abs(np.diff(fast[:columns])).min()
    drift = 0.2 * float(jumps.max())
    for row in range(rows):
        part = slice(row * columns, min((row + 1) * columns, count))
        line = fast[:columns]
        if np.ptp(slow[part]) > drift:
            return None
        length = part.stop - part.start
        if np.allclose(fast[part], line[:length], rtol=0, atol=tolerance):
            continue
        if not np.allclose(fast[part], line[::-1][:length], rtol=0, atol=tolerance):
            return None
        frames[row] = frames[row, ::-1]
    return frames
