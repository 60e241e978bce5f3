"""The compression: blosc with bit shuffle; zstd or lz4, as the data at hand deserve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorstore as ts

from scientistcloud.omezarr.image import Array

WORTH = 0.9
"""zstd takes about three times lz4's time: it is chosen where its output is at most this part of lz4's."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How chunks are compressed."""

    #: `zstd` or `lz4`, both of level 1.
    name: str
    #: Compressed by uncompressed size of the samples it was chosen by; 1.0 where there were none.
    ratio: float = 1.0

    def configuration(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        """The codec as Zarr v3 names it."""
        return {
            "name": "blosc",
            "configuration": {
                "cname": self.name,
                "clevel": 1,
                "shuffle": "bitshuffle",
                "typesize": dtype.itemsize,
                "blocksize": 0,
            },
        }

    def __str__(self) -> str:
        return f"blosc {self.name} 1 bitshuffle"


def choose(samples: Sequence[Array], name: str = "auto") -> Codec:
    """The codec for data like `samples`; decided by sizes, not by times, so that a second run gives the same."""
    total = sum(sample.nbytes for sample in samples)
    if not total:
        return Codec("zstd" if name == "auto" else name)
    sizes = {each: sum(_size(sample, Codec(each)) for sample in samples) for each in ("zstd", "lz4")}
    if name == "auto":
        name = "zstd" if sizes["zstd"] <= WORTH * sizes["lz4"] else "lz4"
    return Codec(name, sizes[name] / total)


def _size(sample: Array, codec: Codec) -> int:
    """What `sample` takes as one chunk. tensorstore itself compresses it, in memory: one blosc for all."""
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "memory"},
        "store_data_equal_to_fill_value": True,
        "metadata": {
            "shape": sample.shape,
            "data_type": sample.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": sample.shape}},
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                codec.configuration(sample.dtype),
            ],
        },
    }
    array = ts.open(spec, create=True, context=ts.Context()).result()
    array.write(np.ascontiguousarray(sample)).result()
    stored = array.kvstore
    assert stored is not None
    return sum(len(stored.read(key).result().value) for key in stored.list().result() if key.startswith(b"c"))
