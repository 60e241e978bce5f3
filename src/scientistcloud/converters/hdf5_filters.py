"""HDF5's filters undone by us, so that several threads can: deflate, shuffle and Fletcher's sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import imagecodecs
import numpy as np

from scientistcloud.omezarr.image import Array

DEFLATE, SHUFFLE, FLETCHER32 = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32
_SUM_BYTES = 4


class DoesNotDecode(Exception):
    """The bytes of a chunk are not what its filters make."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One step of a pipeline."""

    number: int
    name: str
    values: tuple[int, ...]


def pipeline(dataset: h5py.Dataset) -> tuple[Filter, ...]:
    """The filters of a data set in the order in which they were applied."""
    plan = dataset.id.get_create_plist()
    found = [plan.get_filter(index) for index in range(plan.get_nfilters())]
    return tuple(
        Filter(number, name.decode("utf-8", "replace"), tuple(map(int, values)))
        for number, _, values, name in found
    )


def is_ours(filters: Sequence[Filter]) -> bool:
    """Whether `undone` can."""
    numbers = [each.number for each in filters]
    return set(numbers) <= {DEFLATE, SHUFFLE, FLETCHER32} and len(set(numbers)) == len(numbers)


def missing(filters: Sequence[Filter]) -> list[str]:
    """Those that the library has not either."""
    return [
        f"{each.number} ({each.name or 'without a name'})"
        for each in filters
        if not h5py.h5z.filter_avail(each.number)
    ]


def undone(stored: Any, filters: Sequence[Filter], mask: int, into: Array) -> None:
    """Fill `into`, bytes in a row, with a chunk as it was before `filters`; those in `mask` were left out for it.

    Raises `DoesNotDecode`.
    """
    applied = [each for index, each in enumerate(filters) if not mask >> index & 1]
    block: Array = np.frombuffer(stored, np.uint8)
    # A checksum is only taken off, so the last step that makes bytes is the last of the others.
    final = next((index for index, each in enumerate(applied) if each.number != FLETCHER32), None)
    for index in reversed(range(len(applied))):
        if applied[index].number == FLETCHER32:
            block = _summed(block)
            continue
        # Fletcher's sum comes behind what it is the sum of, and may itself be deflated or shuffled.
        sums = sum(each.number == FLETCHER32 for each in applied[:index])
        size = into.size + _SUM_BYTES * sums
        target = into if index == final and not sums else np.empty(size, np.uint8)
        if applied[index].number == DEFLATE:
            _inflate(block, target)
        else:
            _unshuffle(block, applied[index].values, target)
        block = target
    if block is not into:
        if block.size != into.size:
            raise DoesNotDecode(f"{block.size} bytes instead of {into.size}")
        into[...] = block


def _inflate(block: Any, target: Any) -> None:
    try:
        made = imagecodecs.deflate_decode(block, out=target)
    except (imagecodecs.DeflateError, ValueError, RuntimeError, MemoryError) as broken:
        raise DoesNotDecode(str(broken)) from broken
    if len(made) != target.size:
        raise DoesNotDecode(f"{len(made)} bytes instead of {target.size}")


def _unshuffle(block: Array, values: Sequence[int], target: Array) -> None:
    if block.size != target.size:
        raise DoesNotDecode(f"{block.size} bytes instead of {target.size}")
    size = values[0] if values else 1
    count = block.size // size if size else 0
    if size < 2 or count < 2:
        target[...] = block
        return
    items, planes = target[: count * size].reshape(count, size), block[: count * size].reshape(size, count)
    for index in range(size):  # faster than one transposition
        items[:, index] = planes[index]
    target[count * size :] = block[count * size :]


def _summed(block: Array) -> Array:
    if block.size < _SUM_BYTES:
        raise DoesNotDecode("too short for a checksum")
    data, told = block[:-_SUM_BYTES], int(block[-_SUM_BYTES:].view("<u4")[0])
    made = int(imagecodecs.h5checksum_fletcher32(data.tobytes()))
    # HDF5 before 1.6.3 swapped the bytes of each half on little-endian machines; readers accept both.
    swapped = (made & 0x00FF00FF) << 8 | (made & 0xFF00FF00) >> 8
    if told not in (made, swapped):
        raise DoesNotDecode("its checksum is wrong")
    return data
