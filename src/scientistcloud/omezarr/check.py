"""Whether a finished store is what it should be: its structure, its levels, and that its values can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from scientistcloud.errors import SourceError, UnreadableSource
from scientistcloud.omezarr.grid import Box, grown
from scientistcloud.omezarr.image import Array, Reader, Region
from scientistcloud.omezarr.metadata import OURS

_READ_BYTES = 32 << 20


class BrokenStore(UnreadableSource):
    """A converted form that is not what it should be; convert the source again."""


def check(store: Path, *, values: bool = False) -> int:
    """Check the store; give how many values of the default field were read.

    Every array that a multiscale entry names must open, in the shape that its factors promise, and its first and
    last chunk must decode, and those of the arrays beside the images; with `values`, every value of the default
    field at full resolution. Raises `BrokenStore`, naming what is wrong.
    """
    read = 0
    for number, (group, entry) in enumerate(_entries(store)):
        axes = entry["axes"]
        scales = [each["coordinateTransformations"][0]["scale"] for each in entry["datasets"]]
        finest = opened(store / group / entry["datasets"][0]["path"])
        for scale, dataset in zip(scales, entry["datasets"], strict=True):
            array = opened(store / group / dataset["path"])
            factors = [round(s / first) for s, first in zip(scale, scales[0], strict=True)]
            expected = _shape(finest.shape, factors)
            if array.rank != len(axes) or array.shape != expected or array.dtype != finest.dtype:
                raise BrokenStore(
                    f"{store.name}: {dataset['path']} is {array.dtype.name} {array.shape}, not "
                    f"{finest.dtype.name} {expected}; convert the source again"
                )
            everything = values and number == 0 and array.shape == finest.shape and factors == [1] * len(axes)
            for region in _walk(array) if everything else _ends(array):
                size = _read(array, region, dataset["path"]).size
                read += size if everything else 0
    for path in _plain_arrays(store):
        array = opened(store / path)
        for region in _ends(array):
            _read(array, region, path)
    return read


def compare(store: Path, reader: Reader) -> int:
    """Compare every value of the default field with what `reader` reads; give how many there are.

    Raises `BrokenStore`, naming the first place that differs.
    """
    group, entry = next(_entries(store))
    path = entry["datasets"][0]["path"]
    array = opened(store / group / path)
    image = reader.describe().images[0]
    if array.shape != image.shape:
        raise BrokenStore(f"{path} is {array.shape} and the source {image.shape}; convert the source again")
    read = 0
    for region in _walk(array, image.source_chunk):
        ours, theirs = _read(array, region, path), reader.read(0, region)
        equal = (ours == theirs) | ((ours != ours) & (theirs != theirs))  # NaN is equal to NaN here
        if not equal.all():
            where = [int(at[0]) + part.start for at, part in zip(np.nonzero(~equal), region, strict=True)]
            raise BrokenStore(f"{path} differs from the source at {where}; convert the source again")
        read += ours.size
    return read


def _shape(finest: Sequence[int], factors: Sequence[int]) -> tuple[int, ...]:
    """Halved again and again, each time rounded up, is the same as divided once and rounded up."""
    return tuple(-(-n // factor) for n, factor in zip(finest, factors, strict=True))


def _entries(store: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each multiscale entry with the path of its group, the default one first."""
    root = _ome(store)
    groups = _ome(store / "OME")["series"] if "bioformats2raw.layout" in root else [""]
    for group in groups:
        for entry in (_ome(store / group) if group else root)["multiscales"]:
            yield group, entry


def _plain_arrays(store: Path) -> list[str]:
    """Paths of the arrays that are kept beside the images."""
    ours = json.loads((store / "zarr.json").read_bytes())["attributes"].get(OURS, {})
    return list(ours.get("plain_arrays", {}))


def _ome(group: Path) -> Mapping[str, Any]:
    try:
        document = json.loads((group / "zarr.json").read_bytes())
        ome = document["attributes"]["ome"]
    except (OSError, ValueError, KeyError) as wrong:
        raise BrokenStore(f"{group.name} is no OME-Zarr image ({wrong}); convert the source again") from wrong
    assert isinstance(ome, dict)
    return ome


def opened(path: Path) -> Any:
    """The array at `path`, to be read. Raises `BrokenStore`."""
    import tensorstore as ts  # 20 MiB, which a conversion does without while it holds most

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    try:
        return ts.open(spec, open=True, read=True).result()
    except Exception as wrong:
        raise BrokenStore(f"the array {path.parent.name}/{path.name} does not open: {wrong}") from wrong


def _read(array: Any, region: Region, path: str) -> Array:
    try:
        return np.asarray(array[region].read().result())
    except SourceError:
        raise
    except Exception as wrong:
        raise BrokenStore(f"{path} cannot be read: {' '.join(str(wrong).split())[:300]}") from wrong


def _ends(array: Any) -> Iterator[Region]:
    chunk: Box = tuple(array.chunk_layout.read_chunk.shape)
    yield tuple(slice(0, min(c, n)) for c, n in zip(chunk, array.shape, strict=True))
    if prod(chunk) < prod(array.shape):
        yield tuple(slice((n - 1) // c * c, n) for c, n in zip(chunk, array.shape, strict=True))


def _walk(array: Any, source_chunk: Sequence[int] | None = None) -> Iterator[Region]:
    """The whole array in boxes of whole shards and whole blocks of the source, as far as they fit."""
    item = array.dtype.numpy_dtype.itemsize
    start = tuple(array.chunk_layout.read_chunk.shape)
    hint = source_chunk or array.shape
    box = grown(start, hint, item_bytes=item, max_bytes=_READ_BYTES)
    box = grown(box, array.shape, item_bytes=item, max_bytes=_READ_BYTES)
    counts = [-(-n // b) for n, b in zip(array.shape, box, strict=True)]
    for index in np.ndindex(*counts):
        yield tuple(slice(i * b, min((i + 1) * b, n)) for i, b, n in zip(index, box, array.shape, strict=True))
