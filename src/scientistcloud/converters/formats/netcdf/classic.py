"""Where the values of a netCDF-3 file lie: its header, checked against the file.

The netCDF library fills what lies behind the end of a cut-off file with zeros and says nothing, so the places
are worked out here, and the values are read from them directly (which is also faster, and safe from several
threads). "The NetCDF Classic Format Specification"; CDF-1, CDF-2 (64-bit offset) and CDF-5 (64-bit data).
"""

from __future__ import annotations

import math
import os
import struct
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np

from scientistcloud.errors import UnreadableSource

_TYPES = {
    1: "i1",
    2: "S1",
    3: ">i2",
    4: ">i4",
    5: ">f4",
    6: ">f8",
    7: "u1",
    8: ">u2",
    9: ">u4",
    10: ">i8",
    11: ">u8",
}
_STREAMING = {4: 0xFFFFFFFF, 8: 0xFFFFFFFFFFFFFFFF}
_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where a variable lies in its file."""

    begin: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    #: Bytes from one record to the next, where the first axis is the record dimension; else None.
    record_stride: int | None

    @property
    def end(self) -> int:
        """First byte behind its last value."""
        if not math.prod(self.shape):
            return self.begin
        if self.record_stride is None:
            return self.begin + math.prod(self.shape) * self.dtype.itemsize
        one = math.prod(self.shape[1:]) * self.dtype.itemsize
        return self.begin + (self.shape[0] - 1) * self.record_stride + one


def places(fd: int, name: str) -> dict[str, Place]:
    """Each variable of the netCDF-3 file `name`, by name.

    Raises `UnreadableSource` for a header that makes no sense or claims more than the file holds.
    """
    size = os.fstat(fd).st_size
    try:
        found = _Header(fd, size).places()
    except (struct.error, ValueError, LookupError, OverflowError) as broken:
        raise UnreadableSource(f"{name} is damaged or cut off within its header; upload it again") from broken
    for variable, place in found.items():
        if place.end > size:
            raise UnreadableSource(
                f"{name} ends at byte {size}, but {variable} {place.shape} should end at byte {place.end}; "
                "upload it again"
            )
    return found


class _Header:
    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size, self._at, self._from, self._block = fd, size, 0, 0, b""
        magic = self._take(4)
        self._count = 8 if magic[3] == 5 else 4
        self._offset = 4 if magic[3] == 1 else 8

    def places(self) -> dict[str, Place]:
        records = self._number(self._count)
        dimensions = [(self._name(), self._number(self._count)) for _ in range(self._list(_DIMENSIONS))]
        self._attributes()
        raw = [self._variable(len(dimensions)) for _ in range(self._list(_VARIABLES))]
        unlimited = {index for index, (_, length) in enumerate(dimensions) if length == 0}
        stride, only = self._record_stride(raw, dimensions, unlimited)
        if records == _STREAMING[self._count]:
            begins = [begin for _, dims, _, begin in raw if dims and dims[0] in unlimited]
            records = max(0, (self._size - min(begins, default=self._size)) // stride) if stride else 0
        found = {}
        for name, dims, kind, begin in raw:
            record = bool(dims) and dims[0] in unlimited
            shape = tuple(records if dim in unlimited else dimensions[dim][1] for dim in dims)
            dtype = np.dtype(_TYPES[kind])
            step = (only if only is not None else stride) if record else None
            found[name] = Place(begin, dtype, shape, step)
        return found

    @staticmethod
    def _record_stride(
        raw: list[tuple[str, tuple[int, ...], int, int]], dimensions: list[tuple[str, int]], unlimited: set[int]
    ) -> tuple[int, int | None]:
        """Bytes of a record; and of a single record variable's, which alone is not padded to 4."""
        sizes = [
            math.prod(dimensions[dim][1] for dim in dims[1:]) * np.dtype(_TYPES[kind]).itemsize
            for _, dims, kind, _ in raw
            if dims and dims[0] in unlimited
        ]
        stride = sum(-(-size // 4) * 4 for size in sizes)
        return stride, sizes[0] if len(sizes) == 1 else None

    def _variable(self, dimensions: int) -> tuple[str, tuple[int, ...], int, int]:
        name = self._name()
        rank = self._number(self._count)
        if rank > 1024:
            raise ValueError(rank)
        dims = tuple(self._number(self._count) for _ in range(rank))
        if any(dim >= dimensions for dim in dims):
            raise ValueError(dims)
        self._attributes()
        kind = self._number(4)
        self._number(self._count)  # vsize: overflows for large variables, so it is worked out from the shape
        return name, dims, kind, self._number(self._offset)

    def _attributes(self) -> None:
        for _ in range(self._list(_ATTRIBUTES)):
            self._name()
            kind = self._number(4)
            count = self._number(self._count)
            self._skip(-(-count * np.dtype(_TYPES[kind]).itemsize // 4) * 4)

    def _list(self, tag: int) -> int:
        found, count = self._number(4), self._number(self._count)
        if found not in (0, tag) or (found == 0 and count):
            raise ValueError(found)
        return count

    def _name(self) -> str:
        length = self._number(self._count)
        if length > self._size:
            raise ValueError(length)
        name = unicodedata.normalize("NFC", self._take(length).decode("utf-8"))  # as the library gives it
        self._skip(-length % 4)
        return name

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _skip(self, count: int) -> None:
        self._at += count
        if self._at > self._size:
            raise ValueError(self._at)

    def _take(self, count: int) -> bytes:
        if not self._from <= self._at <= self._at + count <= self._from + len(self._block):
            self._from, self._block = self._at, os.pread(self._fd, max(count, 65536), self._at)
        start = self._at - self._from
        taken = self._block[start : start + count]
        if len(taken) < count:
            raise ValueError(self._at)
        self._at += count
        return taken
