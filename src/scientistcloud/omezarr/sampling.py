"""What a look at a few places of an image decides: the reduction, and (in `codec`) the compression."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from scientistcloud.omezarr.arrangement import Member
from scientistcloud.omezarr.image import Array, AxisKind, Image, Reader, Reduction, Region
from scientistcloud.omezarr.pyramid import representable, valid

COUNTS_BELOW = 8
"""Integers with a smaller mean are taken for counts: rounded means would lose them."""
_PLACES = 8
_SIDE, _LEAST_SIDE = 512, 128
_WHOLE_VOXELS = 1 << 20
_SOURCE_BYTES = 64 << 20  # of the source's blocks, as far as they are known, so much is read for a look


def samples_of(reader: Reader, member: Member) -> list[Array]:
    """Small parts of the image, spread over it; all of it where it is small."""
    image = member.image
    return [reader.read(member.index, region) for region in places(image)]


def places(image: Image) -> list[Region]:
    """Where `samples_of` looks: planes of at most 512², with all channels of RGB, along a golden spiral.

    Smaller and fewer ones where each touches so many of the source's blocks that reading them would take long.
    """
    if prod(image.shape) <= _WHOLE_VOXELS:
        return [tuple(slice(0, n) for n in image.shape)]
    size = [
        min(_SIDE, axis.length) if i >= len(image.axes) - 2 else axis.length if _together(image, i) else 1
        for i, axis in enumerate(image.axes)
    ]
    while _touched_bytes(image, size) * _PLACES // 2 > _SOURCE_BYTES and max(size[-2:]) > _LEAST_SIDE:
        size[-2:] = [min(s, max(_LEAST_SIDE, s // 2)) for s in size[-2:]]
    count = max(1, min(_PLACES, _SOURCE_BYTES // _touched_bytes(image, size)))
    regions = []
    for k in range(count):
        at = [((k + 0.5) / count + i * 0.6180339887) % 1 for i in range(len(size))]
        starts = [int(a * (n - s + 1)) for a, n, s in zip(at, image.shape, size, strict=True)]
        regions.append(tuple(slice(a, a + s) for a, s in zip(starts, size, strict=True)))
    return regions


def _touched_bytes(image: Image, size: Sequence[int]) -> int:
    """Of all the source's blocks that a box of `size` can lie across."""
    blocks = image.source_chunk or (1,) * len(size)
    counts = [min(-(-n // b), (s + b - 2) // b + 1) for n, b, s in zip(image.shape, blocks, size, strict=True)]
    return prod(counts) * prod(blocks) * image.dtype.itemsize


def _together(image: Image, axis: int) -> bool:
    return image.rgb and image.axes[axis].kind is AxisKind.CHANNEL


def decide_reduction(image: Image, samples: Sequence[Array]) -> Reduction:
    """The reader's word; else by CF flags; else the maximum for counts and the mean for all else.

    Counts are integers that are not packed, not negative, and have a mean below `COUNTS_BELOW`.
    """
    if image.reduction is not None:
        return image.reduction
    if image.dtype.kind == "b" or "flag_values" in image.attributes:
        return Reduction.MODE
    if "flag_masks" in image.attributes and image.dtype.kind in "iu":
        return Reduction.OR
    packed = {"scale_factor", "add_offset"} & image.attributes.keys()
    if image.dtype.kind not in "iu" or image.rgb or packed:
        return Reduction.MEAN
    marks = representable(image.fill, image.dtype)
    good = [part[valid(part, marks)] if valid(part, marks) is not None else part.reshape(-1) for part in samples]
    values = np.concatenate([part.reshape(-1) for part in good] or [np.empty(0, image.dtype)])
    if not values.size or values.min() < 0 or values.mean(dtype=np.float64) >= COUNTS_BELOW:
        return Reduction.MEAN
    return Reduction.MAXIMUM
