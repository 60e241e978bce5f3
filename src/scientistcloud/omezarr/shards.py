"""Shards of Zarr v3: chunks compressed one by one into one file, with an index at its end.

A library would do it as well, but holds a shard compressed beside the one that it compresses; here it is a chunk.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from scientistcloud.omezarr.codec import Codec
from scientistcloud.omezarr.grid import Box
from scientistcloud.omezarr.image import Array

_ABSENT = 2**64 - 1  # in the index, for a chunk that holds nothing but the fill value
_CASTAGNOLI = 0x82F63B78


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedArray:
    """The array whose `zarr.json` lies in `folder`."""

    folder: Path
    chunk: Box
    #: A multiple of `chunk` along each axis.
    shard: Box
    dtype: np.dtype[Any]
    codec: Codec
    #: The value of pixels beyond the array's end, and of chunks that are not stored.
    fill: Any

    def path(self, index: Box) -> Path:
        """The file of a shard by its place in the grid of shards."""
        return self.folder.joinpath("c", *map(str, index))

    def write(self, index: Box, values: Array) -> Path | None:
        """Write one whole shard, cut off where the array ends; None where it is all fill and has no file.

        Nothing is synced. Safe to call from several threads for different shards.
        """
        nothing = np.full(self.chunk, self.fill, self.dtype)
        places: list[int] = []
        path = self.path(index)
        end = 0
        file = None
        try:
            for place in product(*(range(s // c) for s, c in zip(self.shard, self.chunk, strict=True))):
                chunk = _chunk_at(place, values, nothing)
                if _same_bits(chunk, nothing):
                    places += _ABSENT, _ABSENT
                    continue
                encoded = self.codec.encode(chunk)
                if file is None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file = path.open("wb", buffering=0)
                _write_all(file, encoded)
                places += end, len(encoded)
                end += len(encoded)
            if file is None:
                return None
            table = struct.pack(f"<{len(places)}Q", *places)
            _write_all(file, table + struct.pack("<I", crc32c(table)))
        finally:
            if file is not None:
                file.close()
        return path


def write_chunks(folder: Path, values: Array, *, chunk: Box, codec: Codec) -> None:
    """Write all `values` of a small array, whose `zarr.json` in `folder` knows no shards: a file for each chunk."""
    beyond = np.zeros(chunk, values.dtype)
    for place in product(*(range(-(-n // c)) for n, c in zip(values.shape, chunk, strict=True))):
        path = folder.joinpath("c", *map(str, place))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(codec.encode(_chunk_at(place, values, beyond)))


def _chunk_at(place: Box, values: Array, nothing: Array) -> Array:
    """One chunk of `values`, padded with `nothing`, which has its shape; all of it beyond their end."""
    part = values[tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, nothing.shape, strict=True))]
    if part.shape == nothing.shape:
        return np.ascontiguousarray(part)
    whole = nothing.copy()
    whole[tuple(slice(0, n) for n in part.shape)] = part
    return whole


def _write_all(file: Any, data: bytes) -> None:
    written = file.write(data)
    while written < len(data):  # a write may be cut short: by a signal, or just before the disk is full
        data = data[written:]
        written = file.write(data)


def _same_bits(one: Array, other: Array) -> bool:
    """Equal to the last bit: -0.0 is no 0.0, and a NaN is itself."""
    ours, theirs = one.reshape(-1).view(np.uint8), other.reshape(-1).view(np.uint8)
    few = 64  # mostly these tell already
    return bool(np.array_equal(ours[:few], theirs[:few]) and np.array_equal(ours, theirs))


def _table() -> Sequence[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The checksum of a shard's index (RFC 3720, appendix B.4); an index is a few KiB long."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
