"""Which levels an image gets, and how a level is made from the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from scientistcloud.omezarr.image import Array, Axis, AxisKind, Reduction

LENGTHS = frozenset((
    "angstrom", "attometer", "centimeter", "decimeter", "exameter", "femtometer", "foot", "gigameter",
    "hectometer", "inch", "kilometer", "megameter", "meter", "micrometer", "mile", "millimeter", "nanometer",
    "parsec", "petameter", "picometer", "terameter", "yard", "yoctometer", "yottameter", "zeptometer",
    "zettameter",
))  # fmt: skip
"""OME-NGFF 0.5's units for axes of type "space"."""

_BLOCK_BYTES = 1 << 20  # of one step of `downsample`: it and its sums stay in a core's cache


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution."""

    shape: tuple[int, ...]
    #: Pixels of level 0 along each axis in one of this level: 1, 2, 4 …
    factors: tuple[int, ...]
    #: The same with regard to the level before: 1 or 2.
    steps: tuple[int, ...]


def plan_levels(axes: Sequence[Axis], chunk: Sequence[int], limit: int | None = None) -> tuple[Level, ...]:
    """The levels of an image, the full one first; at most `limit` of them.

    y and x are halved every time. A third axis of space is, where all of them are lengths, when its spacing
    is at most √2 times the smallest (so that voxels become cubes and stay so); where they are not comparable,
    while it is longer than `chunk`. Time, channels and custom axes never are. The last level fits one chunk.
    """
    space = [i for i, axis in enumerate(axes) if axis.kind is AxisKind.SPACE]
    levels = [Level(tuple(axis.length for axis in axes), (1,) * len(axes), (1,) * len(axes))]
    while limit is None or len(levels) < limit:
        last = levels[-1]
        if all(last.shape[i] <= chunk[i] for i in space):
            break
        steps = _steps(axes, space, last, chunk)
        if prod(steps) == 1:
            break
        shape = tuple(-(-n // step) for n, step in zip(last.shape, steps, strict=True))
        factors = tuple(f * step for f, step in zip(last.factors, steps, strict=True))
        levels.append(Level(shape, factors, steps))
    return tuple(levels)


def _steps(axes: Sequence[Axis], space: Sequence[int], last: Level, chunk: Sequence[int]) -> tuple[int, ...]:
    spacing = {i: (axes[i].spacing or 1.0) * last.factors[i] for i in space}
    comparable = all(axes[i].unit in LENGTHS and axes[i].spacing for i in space)
    smallest = min((spacing[i] for i in space if last.shape[i] > 1), default=0.0)

    def halved(i: int) -> bool:
        if last.shape[i] == 1:
            return False
        if i in space[-2:]:
            return True
        return spacing[i] <= sqrt(2) * smallest if comparable else last.shape[i] > chunk[i]

    return tuple(2 if i in space and halved(i) else 1 for i in range(len(axes)))


def downsample(
    block: Array, steps: Sequence[int], *, reduction: Reduction, fill: Sequence[float | int] = ()
) -> Array:
    """Make one value of each box of `steps` of `block`; the last box of an axis may be cut off.

    Parameters
    ----------
    block
        Any dtype that is written, axes in the order of the image.
    steps
        One per axis, 1 or 2.
    reduction
        `MEAN`: integers are rounded half to even. `MODE`: the most frequent value, of several the smallest.
        `NEAREST`: the first value of the box. `OR`: integers and bool alone.
    fill
        Stored values that mean "no data". They and NaN are left out of `MEAN` and `MAXIMUM`; a box that holds
        nothing else gives the first of `fill`, or NaN.

    Returns
    -------
    Array
        ``ceil(n / step)`` along each axis, dtype of `block`.

    Notes
    -----
    The mean keeps intensities; labels need the mode, because the mean of labels 3 and 7 is not a label; counts
    need the maximum, because rounded means leave 23 % of a Poisson(0.2) signal at level 1 and nothing at level 3.
    """
    kernel = _kernel(block.dtype, reduction, fill)
    out = np.empty([-(-n // step) for n, step in zip(block.shape, steps, strict=True)], block.dtype)
    # The first axis that has a length is walked in steps, so that the sums in between stay in the cache.
    walk = next((i for i, n in enumerate(block.shape) if n > 1), 0)
    rows = max(1, _BLOCK_BYTES * block.shape[walk] // max(1, block.nbytes) // 2) * steps[walk]
    before = (slice(None),) * walk
    for start in range(0, block.shape[walk], rows):
        part = _padded(block[(*before, slice(start, start + rows))], steps)
        into = slice(start // steps[walk], -(-(start + rows) // steps[walk]))
        out[(*before, into)] = kernel(part, steps)
    return out


_Kernel = Callable[[Array, Sequence[int]], Array]


def _padded(part: Array, steps: Sequence[int]) -> Array:
    """`part` with the last value repeated where an axis ends inside a box.

    Boxes of two whose second half repeats the first have the same mean, maximum, mode and union as the half.
    """
    odd = [(0, 1) if step == 2 and n % 2 else (0, 0) for n, step in zip(part.shape, steps, strict=True)]
    return np.pad(part, odd, mode="edge") if any(after for _, after in odd) else part


def _halves(part: Array, steps: Sequence[int], combine: Callable[[Array, Array], Array]) -> Array:
    """Combine neighbours along each axis with step 2, the first axis first: whole planes, then rows."""
    for axis, step in enumerate(steps):
        if step == 2:
            before = (slice(None),) * axis
            part = combine(part[(*before, slice(0, None, 2))], part[(*before, slice(1, None, 2))])
    return part


def _kernel(dtype: np.dtype[Any], reduction: Reduction, fill: Sequence[float | int]) -> _Kernel:
    marks = representable(fill, dtype)
    match reduction:
        case Reduction.NEAREST:
            return lambda part, steps: part[tuple(slice(None, None, step) for step in steps)]
        case Reduction.MODE:
            return _mode
        case Reduction.OR:
            return lambda part, steps: _halves(part, steps, np.bitwise_or)
        case Reduction.MAXIMUM:
            return lambda part, steps: _maximum(part, steps, marks)
        case Reduction.MEAN:
            if dtype.kind == "b":
                return lambda part, steps: _mean(part.view(np.uint8), steps, marks).view(np.bool_)
            return lambda part, steps: _mean(part, steps, marks)


def representable(fill: Sequence[float | int], dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Those of `fill` that a pixel of `dtype` can have, as scalars of it (NaN left out: it marks itself)."""
    marks = []
    for value in fill:
        if value != value:  # NaN
            continue
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            if int(value) != value or not info.min <= value <= info.max:
                continue
            marks.append(dtype.type(int(value)))
        elif dtype.kind in "fc":
            with np.errstate(over="ignore"):
                marks.append(dtype.type(value))
    return tuple(marks)


def valid(part: Array, marks: Sequence[Any]) -> Array | None:
    """Which values are data, neither NaN nor one of `marks`; None: all of them."""
    missing: Array | None = None
    if part.dtype.kind in "fc":
        missing = np.isnan(part)
    for mark in marks:
        missing = part == mark if missing is None else missing | (part == mark)
    return None if missing is None or not missing.any() else ~missing


def _maximum(part: Array, steps: Sequence[int], marks: Sequence[Any]) -> Array:
    good = valid(part, marks)
    if good is None:
        return _halves(part, steps, np.maximum)
    lowest: Any = np.iinfo(part.dtype).min if part.dtype.kind in "iu" else -np.inf
    out = _halves(np.where(good, part, part.dtype.type(lowest)), steps, np.maximum)
    return np.where(_halves(good, steps, np.logical_or), out, _nothing(part.dtype, marks))


def _nothing(dtype: np.dtype[Any], marks: Sequence[Any]) -> Any:
    return marks[0] if marks else dtype.type(np.nan)


def _mode(part: Array, steps: Sequence[int]) -> Array:
    members = [part]
    for axis, step in enumerate(steps):
        if step == 2:
            before = (slice(None),) * axis
            members = [each[(*before, slice(first, None, 2))] for each in members for first in (0, 1)]
    ordered = np.sort(np.stack(members), axis=0)
    best: Array = ordered[0].copy()
    most = np.ones(ordered.shape[1:], np.uint8)
    run = most.copy()
    for i in range(1, len(ordered)):
        with np.errstate(invalid="ignore"):  # the data may hold NaN that signal
            run = np.where(ordered[i] == ordered[i - 1], run + 1, 1).astype(np.uint8)
        better = run > most
        best[better], most[better] = ordered[i][better], run[better]
    return best


# -- the mean ------------------------------------------------------------------------------------


def _mean(part: Array, steps: Sequence[int], marks: Sequence[Any]) -> Array:
    good = valid(part, marks)
    if part.dtype.kind in "fc":
        return _mean_of_floats(part, steps, good, marks)
    if good is not None:
        return _mean_of_some(part, steps, good, marks)
    if part.dtype.itemsize == 8:
        return _mean_of_some(part, steps, np.ones(part.shape, np.bool_), marks)
    wide = np.dtype(f"{part.dtype.kind}{2 * part.dtype.itemsize}")
    total = _halves(part, steps, lambda a, b: np.add(a, b, dtype=wide))
    shift = total.dtype.type(sum(step == 2 for step in steps))
    if not shift:
        return part
    # Half to even without division: floor((total + n/2 - 1 + (floor(total/n) odd)) / n), n = 2**shift.
    one = total.dtype.type(1)
    odd = (total >> shift) & one
    odd += (one << (shift - one)) - one
    odd += total
    odd >>= shift
    out: Array = odd.astype(part.dtype)
    return out


def _mean_of_some(part: Array, steps: Sequence[int], good: Array, marks: Sequence[Any]) -> Array:
    """The mean over `good`, exact for every integer: quotients and remainders are summed apart."""
    count = _halves(good.astype(np.uint8), steps, np.add)
    some = np.maximum(count, 1)
    wide = np.dtype("u8" if part.dtype.kind == "u" else "i8")
    divisor = some.astype(wide)
    each = divisor
    for axis, step in enumerate(steps):
        each = each.repeat(2, axis) if step == 2 else each
    quotient, remainder = np.divmod(np.where(good, part, part.dtype.type(0)).astype(wide), each)
    carried, rest = np.divmod(_halves(remainder, steps, np.add), divisor)
    floor = _halves(quotient, steps, np.add) + carried
    up = (2 * rest > divisor) | ((2 * rest == divisor) & (floor % 2 == 1))
    out: Array = (floor + up.astype(wide)).astype(part.dtype)
    return np.where(count > 0, out, _nothing(part.dtype, marks)) if marks else out


def _mean_of_floats(part: Array, steps: Sequence[int], good: Array | None, marks: Sequence[Any]) -> Array:
    wide = np.dtype("c16" if part.dtype.kind == "c" else "f8")
    n = 2 ** sum(step == 2 for step in steps)
    with np.errstate(all="ignore"):  # the data may hold infinities, and differences of them
        if good is None:
            # Dividing by a power of two first is exact (but for subnormals) and cannot overflow.
            return _cast(_halves(part.astype(wide) / n, steps, np.add), part.dtype)
        count = _halves(good.astype(np.uint8), steps, np.add)
        total = _halves(np.where(good, part.astype(wide) / n, wide.type(0)), steps, np.add)
        out = _cast(total / (np.maximum(count, 1) / n), part.dtype)  # count / n is exact: one rounding
        return np.where(count > 0, out, _nothing(part.dtype, marks))


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    return values.astype(dtype)
