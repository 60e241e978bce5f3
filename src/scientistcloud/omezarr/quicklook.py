"""A quick look: every n-th pixel of an image of any size, read in seconds, while its conversion takes hours.

Pixels are picked, not averaged: which ones is decided by what reading costs, a block of the source at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

from scientistcloud.omezarr.grid import chunk_of
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Coordinate, Image, Reader, Region
from scientistcloud.omezarr.pyramid import plan_levels

VOXELS = 1 << 22
"""At most so many are picked."""
_COST_SECONDS = 2.0  # aimed at
_MOST_SECONDS = 20.0  # what costs more is not looked at
_READ_SECONDS = 3e-4  # for each call of a reader
_BYTES_A_SECOND = 400e6  # of a reader, decoding included
_HELD_BYTES = 64 << 20  # read at once
_LEAST_SIDE = 64  # pixels
_LEAST_INDICES = 8  # of an axis of a scan

Picks = tuple[range, ...]
"""For each axis which pixels are picked: evenly spaced."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which pixels are picked, and how they are read."""

    picks: Picks
    #: Along these axes each picked index is read by itself; along the others everything between.
    alone: frozenset[int]


def plan(image: Image) -> Plan | None:
    """The finest evenly spaced pixels that can be read in about two seconds; None where even the coarsest cannot.

    Axes of space are thinned as the levels of the pyramid are, then the outer ones more, down to their middle;
    channels are all there, of time steps as many as there is room for.
    """
    best = None
    for picks in _candidates(image):
        if prod(map(len, picks)) > VOXELS:
            continue
        alone, seconds = _cheapest(image, picks)
        if best is None or seconds < best[1]:
            best = Plan(picks, alone), seconds
        if seconds <= _COST_SECONDS:
            break
    return best[0] if best and best[1] <= _MOST_SECONDS else None


def plan_array(image: Image) -> Plan | None:
    """As `plan`, for an array whose axes are equals: rows and columns of a scan, and those of its frames.

    The longest axis is thinned until few enough are left, and then the longest of those that make reading cheaper.
    """
    steps = [1] * len(image.shape)
    while True:
        picks = _picks(image, steps)
        few = prod(map(len, picks)) <= VOXELS
        alone, seconds = _cheapest(image, picks)
        if few and seconds <= _COST_SECONDS:
            return Plan(picks, alone)
        thinner = [i for i, pick in enumerate(picks) if len(pick) > _LEAST_INDICES]
        if few:
            thinner = [i for i in thinner if _cheapest(image, _picks(image, _halved(steps, i)))[1] < 0.9 * seconds]
        if not thinner:
            return Plan(picks, alone) if few and seconds <= _MOST_SECONDS else None
        steps = _halved(steps, max(thinner, key=lambda i: len(picks[i])))


def look(reader: Reader, index: int, image: Image, *, report: Callable[[], None]) -> tuple[Image, Array] | None:
    """The quick look at image `index` of `reader`, as an image with its values; None where it would take long.

    `report` is called between reads; what it raises ends the look.
    """
    planned = plan(image)
    return None if planned is None else picked(reader, index, image, planned, report=report)


def picked(
    reader: Reader, index: int, image: Image, planned: Plan, *, report: Callable[[], None]
) -> tuple[Image, Array]:
    """What was planned, as `look` gives it."""
    values = np.empty([len(pick) for pick in planned.picks], image.dtype)
    for region, inside, into in _reads(image, planned):
        report()
        values[into] = reader.read(index, region)[inside]
    return _thinned(image, planned.picks), values


def _candidates(image: Image) -> Iterator[Picks]:
    """Ever fewer pixels."""
    levels = plan_levels(image.axes, chunk_of(image))
    free = [i for i, axis in enumerate(image.axes) if axis.kind in (AxisKind.TIME, AxisKind.CUSTOM)]
    for level in levels:
        steps = list(level.factors)
        while True:
            yield _picks(image, steps)
            if all(steps[i] >= image.shape[i] for i in free):
                break
            for i in free:
                steps[i] *= 2
    steps = [
        1 if axis.kind is AxisKind.CHANNEL else n if i in free else f
        for i, (axis, n, f) in enumerate(zip(image.axes, image.shape, levels[-1].factors, strict=True))
    ]
    for i in range(len(steps) - 2):
        while image.axes[i].kind is AxisKind.SPACE and steps[i] < image.shape[i]:
            steps[i] *= 2
            yield _picks(image, steps)
    while max(n // step for n, step in zip(image.shape[-2:], steps[-2:], strict=True)) > _LEAST_SIDE:
        steps[-2:] = [2 * step for step in steps[-2:]]
        yield _picks(image, steps)


def _picks(image: Image, steps: Sequence[int]) -> Picks:
    return tuple(_pick(n, step) for n, step in zip(image.shape, steps, strict=True))


def _halved(steps: Sequence[int], axis: int) -> list[int]:
    return [2 * step if i == axis else step for i, step in enumerate(steps)]


def _pick(length: int, step: int) -> range:
    return range(min(step // 2, length // 2), length, step)


def _cheapest(image: Image, picks: Picks) -> tuple[frozenset[int], float]:
    """Along which axes it pays to read each picked index by itself, and what all of it costs in seconds."""
    block = image.source_chunk or (*(1,) * (len(image.shape) - 1), image.shape[-1])
    thin = [i for i, pick in enumerate(picks) if pick.step > block[i] or len(pick) == 1]
    best: tuple[frozenset[int], float] | None = None
    for chosen in product((False, True), repeat=len(thin)):
        alone = frozenset(i for i, yes in zip(thin, chosen, strict=True) if yes)
        reads = prod(len(picks[i]) for i in alone)
        read_bytes = image.dtype.itemsize * prod(
            len(pick) * block[i] if i in alone else n
            for i, (pick, n) in enumerate(zip(picks, image.shape, strict=True))
        )
        seconds = reads * _READ_SECONDS + read_bytes / _BYTES_A_SECOND
        if best is None or seconds < best[1]:
            best = alone, seconds
    assert best is not None
    return best


def _reads(image: Image, planned: Plan) -> Iterator[tuple[Region, Region, Region]]:
    """What to read, which of it is picked, and where that goes; so much at once that little is held."""
    item = image.dtype.itemsize
    spans: list[list[tuple[slice, slice, slice]]] = []
    held = item * prod(1 if i in planned.alone else n for i, n in enumerate(image.shape))
    for i, (pick, length) in enumerate(zip(planned.picks, image.shape, strict=True)):
        if i in planned.alone:
            spans.append([(slice(at, at + 1), slice(0, 1), slice(k, k + 1)) for k, at in enumerate(pick)])
            continue
        parts = min(len(pick), max(1, -(-held // _HELD_BYTES)))
        held = -(-held // parts)
        spans.append(list(_spans(pick, length, -(-len(pick) // parts))))
    for chosen in product(*spans):
        yield tuple(c[0] for c in chosen), tuple(c[1] for c in chosen), tuple(c[2] for c in chosen)


def _spans(pick: range, length: int, count: int) -> Iterator[tuple[slice, slice, slice]]:
    for first in range(0, len(pick), count):
        part = pick[first : first + count]
        end = min(part[-1] + 1, length)
        yield slice(part[0], end), slice(0, None, pick.step), slice(first, first + len(part))


def _thinned(image: Image, picks: Picks) -> Image:
    axes = tuple(_thinned_axis(axis, pick) for axis, pick in zip(image.axes, picks, strict=True))
    by_name = {axis.name: pick for axis, pick in zip(image.axes, picks, strict=True)}
    return replace(
        image,
        axes=axes,
        coordinates=tuple(_thinned_coordinate(each, by_name) for each in image.coordinates),
        source_chunk=None,
    )


def _thinned_axis(axis: Axis, pick: range) -> Axis:
    if axis.spacing is None:
        return replace(axis, length=len(pick))
    first = axis.origin + axis.spacing * pick[0]
    return replace(axis, length=len(pick), spacing=axis.spacing * pick.step, origin=first)


def _thinned_coordinate(coordinate: Coordinate, picks: dict[str, range]) -> Coordinate:
    chosen: Sequence[slice] = [
        slice(picks[name].start, None, picks[name].step) if name in picks else slice(None)
        for name in coordinate.dims
    ]
    return replace(coordinate, values=coordinate.values[tuple(chosen)])
