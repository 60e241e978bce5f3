"""The compression: blosc with bit shuffle; zstd or lz4, as the data at hand deserve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np

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

    def encode(self, chunk: Array) -> bytes:
        """`chunk`, contiguous, as it is stored. Lets other threads run meanwhile."""
        typed: Any = np.ascontiguousarray(chunk)  # seen as bytes, they would be shuffled as bytes
        encoded = imagecodecs.blosc_encode(
            typed,
            level=1,
            compressor=self.name,
            shuffle="bitshuffle",
            typesize=chunk.dtype.itemsize,
            blocksize=0,
            numthreads=1,
        )
        assert isinstance(encoded, bytes)
        return encoded

    def __str__(self) -> str:
        return f"blosc {self.name} 1 bitshuffle"


def choose(samples: Sequence[Array], name: str = "auto") -> Codec:
    """The codec for data like `samples`; decided by sizes, not by times, so that a second run gives the same."""
    total = sum(sample.nbytes for sample in samples)
    if not total:
        return Codec("zstd" if name == "auto" else name)
    sizes = {each: sum(len(Codec(each).encode(sample)) for sample in samples) for each in ("zstd", "lz4")}
    if name == "auto":
        name = "zstd" if sizes["zstd"] <= WORTH * sizes["lz4"] else "lz4"
    return Codec(name, sizes[name] / total)
