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


def undone(stored: Any, filters: Sequence[Filter], mask: int, *, size_bytes: int) -> Array:
    """The `size_bytes` bytes of a chunk, as they were before `filters`; those in `mask` were left out for it.

    Raises `DoesNotDecode`.
    """
    applied = [each for index, each in enumerate(filters) if not mask >> index & 1]
    for index in reversed(range(len(applied))):
        # Fletcher's sum comes behind what it is the sum of, and may itself be deflated.
        expected = size_bytes + _SUM_BYTES * sum(each.number == FLETCHER32 for each in applied[:index])
        match applied[index].number:
            case h5py.h5z.FILTER_DEFLATE:
                stored = _inflated(stored, expected)
            case h5py.h5z.FILTER_SHUFFLE:
                stored = _unshuffled(stored, applied[index].values)
            case _:
                stored = _summed(stored)
    block: Array = np.frombuffer(stored, np.uint8)
    if block.size != size_bytes:
        raise DoesNotDecode(f"{block.size} bytes instead of {size_bytes}")
    return block


def _inflated(stored: Any, size_bytes: int) -> Any:
    try:
        return imagecodecs.deflate_decode(stored, out=size_bytes)
    except (imagecodecs.DeflateError, ValueError, RuntimeError, MemoryError) as broken:
        raise DoesNotDecode(str(broken)) from broken


def _unshuffled(stored: Any, values: Sequence[int]) -> Any:
    block: Array = np.frombuffer(stored, np.uint8)
    size = values[0] if values else 1
    count = block.size // size if size else 0
    if size < 2 or count < 2:
        return stored
    out = np.empty(block.size, np.uint8)
    items, planes = out[: count * size].reshape(count, size), block[: count * size].reshape(size, count)
    for index in range(size):  # faster than one transposition
        items[:, index] = planes[index]
    out[count * size :] = block[count * size :]
    return out


def _summed(stored: Any) -> Any:
    block: Array = np.frombuffer(stored, np.uint8)
    if block.size < _SUM_BYTES:
        raise DoesNotDecode("too short for a checksum")
    data, told = block[:-_SUM_BYTES], int(block[-_SUM_BYTES:].view("<u4")[0])
    made = int(imagecodecs.h5checksum_fletcher32(data.tobytes()))
    # HDF5 before 1.6.3 swapped the bytes of each half on little-endian machines; readers accept both.
    swapped = (made & 0x00FF00FF) << 8 | (made & 0xFF00FF00) >> 8
    if told not in (made, swapped):
        raise DoesNotDecode("its checksum is wrong")
    return data
