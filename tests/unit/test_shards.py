"""Shards of our own hand, read by two libraries that know nothing of it."""

from __future__ import annotations

import json
from itertools import product
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from scientistcloud.omezarr.codec import Codec
from scientistcloud.omezarr.image import Array
from scientistcloud.omezarr.metadata import array_document
from scientistcloud.omezarr.shards import ShardedArray, crc32c, write_chunks

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
    "float64", "complex64", "complex128",
)  # fmt: skip


def written(folder: Path, values: Array, *, chunk: tuple[int, ...], shard: tuple[int, ...], fill: Any = 0) -> Path:
    codec = Codec("lz4")
    document = array_document(
        shape=values.shape, dtype=values.dtype, chunk=chunk, shard=shard, codec=codec,
        dims=[f"d{i}" for i in range(values.ndim)], fill=fill, attributes={},
    )  # fmt: skip
    (folder / "zarr.json").write_text(json.dumps(document))
    array = ShardedArray(folder=folder, chunk=chunk, shard=shard, dtype=values.dtype, codec=codec, fill=fill)
    for index in product(*(range(-(-n // s)) for n, s in zip(values.shape, shard, strict=True))):
        part = values[tuple(slice(i * s, (i + 1) * s) for i, s in zip(index, shard, strict=True))]
        path = array.write(index, part)
        assert path is None or path.is_file()
    return folder


def bits(values: Array) -> Any:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).tolist()


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Array, tuple[int, ...], tuple[int, ...]]:
    axes = draw(st.integers(2, 5))
    chunk = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    shard = tuple(c * draw(st.integers(1, 3)) for c in chunk)
    shape = tuple(draw(st.sampled_from((1, 2, 3, 5, 7, s, s + 1))) for s in shard)
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    raw = random.integers(0, 2 if dtype.kind == "b" else 256, prod(shape) * dtype.itemsize, dtype="u1")
    values = raw.view(dtype).reshape(shape).copy()
    values[random.random(shape) < draw(st.sampled_from((0, 0.5, 0.98, 1)))] = 0
    return values, chunk, shard


@given(arrays())
@settings(max_examples=60, deadline=None)
def test_every_bit_is_read_back(made: tuple[Array, tuple[int, ...], tuple[int, ...]]) -> None:
    """Any shape, type and share of nothing; random bits hold NaN of all kinds, infinities and -0.0."""
    values, chunk, shard = made
    with TemporaryDirectory() as folder:
        path = written(Path(folder), values, chunk=chunk, shard=shard)
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
        assert bits(ts.open(spec, open=True).result().read().result()) == bits(values)
        assert bits(np.asarray(zarr.open_array(path, mode="r")[...])) == bits(values)


@given(arrays(), st.booleans())
@settings(max_examples=20, deadline=None)
def test_so_it_is_from_chunks_that_are_files(
    made: tuple[Array, tuple[int, ...], tuple[int, ...]], scalar: bool
) -> None:
    values, chunk, _ = made
    if scalar:
        values, chunk = values.reshape(-1)[:1].reshape(()), ()
    with TemporaryDirectory() as folder:
        document = array_document(
            shape=values.shape, dtype=values.dtype, chunk=chunk, shard=None, codec=Codec("zstd"),
            dims=[f"d{i}" for i in range(values.ndim)], fill=1, attributes={},
        )  # fmt: skip
        Path(folder, "zarr.json").write_text(json.dumps(document))
        write_chunks(Path(folder), values, chunk=chunk, codec=Codec("zstd"))
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": folder}}
        assert bits(ts.open(spec, open=True).result().read().result()) == bits(values)
        assert bits(np.asarray(zarr.open_array(folder, mode="r")[...])) == bits(values)


@pytest.mark.parametrize("fill", [0, 7])
def test_a_shard_of_nothing_but_fill_has_no_file(fill: int, tmp_path: Path) -> None:
    values = np.full((8, 8), fill, "u2")
    values[5, 6] = 1

    written(tmp_path, values, chunk=(2, 2), shard=(4, 4), fill=fill)

    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("c/*/*"))] == ["c/1/1"]


def test_minus_zero_is_not_taken_for_nothing(tmp_path: Path) -> None:
    values = np.full((4, 4), -0.0)

    written(tmp_path, values, chunk=(4, 4), shard=(4, 4))

    assert np.signbit(np.asarray(zarr.open_array(tmp_path, mode="r")[...])).all()


def test_a_chunk_takes_what_it_takes_with_tensorstore(tmp_path: Path) -> None:
    """The same blosc, shuffled by whole values: seen as bytes, numbers of several bytes would not shrink."""
    values = np.random.default_rng(1).integers(0, 4096, (32, 32, 32)).astype("u2")
    written(tmp_path, values, chunk=values.shape, shard=values.shape)
    document = json.loads((tmp_path / "zarr.json").read_bytes())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "zarr.json").write_text(json.dumps(document))
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "other")}}
    ts.open(spec, open=True).result().write(values).result()

    ours, theirs = (folder.joinpath("c", "0", "0", "0").read_bytes() for folder in (tmp_path, tmp_path / "other"))
    assert ours == theirs


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the catalogue of CRCs
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
