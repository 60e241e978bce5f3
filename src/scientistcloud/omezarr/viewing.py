"""A store's values as a browser's viewer reads them: float32, chunk by chunk, and single values as text.

The viewer's shaders know integers of at most 32 bits and float32. What is stored otherwise is made float32 here for
looking at; what is stored stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from scientistcloud.errors import NotFound
from scientistcloud.omezarr.codec import Codec
from scientistcloud.omezarr.image import Array
from scientistcloud.omezarr.pyramid import representable

CODEC = Codec("lz4")
"""How `float32_chunk` compresses."""
_INDICES_BYTES = 32 << 20  # of shards that were looked into, so much of their indices is kept


def float32_chunk(
    array: Path, index: Sequence[int], *, token: str, missing: Sequence[float | int] = (), part: str = "value"
) -> bytes:
    """One chunk of `array` as float32, compressed with `CODEC`.

    Parameters
    ----------
    index
        The chunk's place in the grid of chunks, not of shards.
    token
        Of the form's publication: the same token, the same array.
    missing
        Stored values that mean "no data"; they become NaN, as does what lies beyond the array's end.
    part
        `value`; of complex numbers `amplitude` or `phase` (in radians).

    Raises `NotFound` for a chunk that is none.
    """
    stored = opened(array, token)
    chunk = stored.chunk_layout.read_chunk.shape
    start = [i * c for i, c in zip(index, chunk, strict=False)]
    if len(index) != len(chunk) or any(not 0 <= a < n for a, n in zip(start, stored.shape, strict=True)):
        raise NotFound(f"{array.name} has no chunk {'/'.join(map(str, index))}")
    region = tuple(slice(a, min(a + c, n)) for a, c, n in zip(start, chunk, stored.shape, strict=True))
    values = as_float32(np.asarray(stored[region].read().result()), missing=missing, part=part)
    whole = np.full(chunk, np.nan, np.float32)
    whole[tuple(slice(0, n) for n in values.shape)] = values
    return CODEC.encode(whole)


def as_float32(values: Array, *, missing: Sequence[float | int] = (), part: str = "value") -> Array:
    """`values` to look at: NaN where they mean "no data", of complex numbers the `part`."""
    marks = [values == mark for mark in representable(missing, values.dtype)]
    if part == "amplitude":
        values = np.abs(values)
    elif part == "phase":
        values = np.angle(values)
    with np.errstate(over="ignore"):  # beyond float32's range lies infinity
        out = values.astype(np.float32)
    for marked in marks:
        out[marked] = np.nan
    return out


def value_at(array: Path, place: Sequence[int], *, token: str, part: str = "value") -> str:
    """The value stored at one place, to its last digit. Raises `NotFound` beyond the array's end."""
    stored = opened(array, token)
    if len(place) != stored.rank or any(not 0 <= i < n for i, n in zip(place, stored.shape, strict=True)):
        raise NotFound(f"{array.name} has no value at {', '.join(map(str, place))}")
    value: Any = np.asarray(stored[tuple(place)].read().result())[()]
    if part == "phase":
        return str(np.angle(value))
    if value.dtype.kind == "c":
        return f"{value.real!s} {'-' if value.imag < 0 else '+'} {abs(value.imag)!s}i"
    return str(value)


@lru_cache(maxsize=64)
def opened(array: Path, token: str) -> Any:
    """The array, kept open: the same `token`, the same array."""
    del token
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array)}}
    context = ts.Context(
        {"cache_pool": {"total_bytes_limit": _INDICES_BYTES}, "data_copy_concurrency": {"limit": 1}}
    )
    return ts.open(spec, open=True, read=True, context=context).result()
