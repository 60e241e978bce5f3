"""Chunks, shards, and the walk over an image."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scientistcloud.omezarr.grid import SHARD_BYTES, boxes, chunk_of, grown, half_full_bytes, shard_of, walk_of
from scientistcloud.omezarr.pyramid import plan_levels
from scientistcloud.testing.arrays import image_of

shapes = st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("axes", "shape", "rgb", "chunk"),
    [
        ("zyx", (256, 1024, 1024), False, (64, 64, 64)),
        ("yx", (4096, 4096), False, (256, 256)),
        ("cyx", (3, 4096, 4096), True, (3, 256, 256)),
        ("cyx", (5, 4096, 4096), False, (1, 256, 256)),
        ("tzyx", (20, 256, 512, 512), False, (1, 64, 64, 64)),
        ("tczyx", (20, 2, 256, 512, 512), False, (1, 1, 64, 64, 64)),
        ("zyx", (5, 512, 512), False, (5, 128, 128)),  # flat, of about as many voxels
        ("zyx", (31, 61, 57), False, (31, 64, 64)),
    ],
)
def test_chunks_are_small_cubes_or_squares(
    axes: str, shape: tuple[int, ...], rgb: bool, chunk: tuple[int, ...]
) -> None:
    values = np.broadcast_to(np.zeros((), "u2"), shape)

    assert chunk_of(image_of(values, axes, rgb=rgb)) == chunk


def test_a_shard_of_a_volume_is_32_mib_of_chunks() -> None:
    assert shard_of((256, 1024, 1024), (64, 64, 64), item_bytes=2) == (64, 512, 512)
    assert shard_of((3, 20_000, 20_000), (3, 256, 256), item_bytes=1) == (3, 2048, 4096)


@pytest.mark.parametrize(
    ("source_chunk", "shard"),
    [
        ((256, 16, 16), (256, 256, 256)),
        ((100, 100, 100), (128, 256, 512)),
        ((1, 1024, 1024), (64, 512, 512)),
        ((4096, 1024, 1024), (4096, 64, 64)),
    ],
)
def test_a_shard_is_as_deep_as_the_blocks_of_its_source(
    source_chunk: tuple[int, ...], shard: tuple[int, ...]
) -> None:
    assert shard_of((4096, 1024, 1024), (64, 64, 64), item_bytes=2, source_chunk=source_chunk) == shard


def test_a_shard_takes_many_time_steps_of_a_small_image() -> None:
    assert shard_of((1000, 64, 64), (1, 64, 64), item_bytes=2) == (1000, 64, 64)


@settings(deadline=None)
@given(shapes, st.data())
def test_a_shard_consists_of_whole_chunks_and_is_no_larger_than_needed(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    chunk = tuple(data.draw(st.integers(1, n)) for n in shape)

    block = data.draw(st.none() | st.tuples(*[st.integers(1, n) for n in shape]))

    shard = shard_of(shape, chunk, item_bytes=8, source_chunk=block)

    for s, c, n in zip(shard, chunk, shape, strict=True):
        assert s % c == 0
        assert s < n + c
    assert shard == chunk or prod(shard) * 8 <= SHARD_BYTES


@settings(deadline=None)
@given(shapes, st.data())
def test_every_voxel_is_read_once(shape: tuple[int, ...], data: st.DataObject) -> None:
    shard = tuple(data.draw(st.integers(1, 4)) for _ in shape)
    hint = data.draw(st.none() | st.tuples(*[st.integers(1, n) for n in shape]))

    walk = walk_of(
        shape,
        shard,
        hint,
        item_bytes=2,
        slab_bytes=data.draw(st.integers(1, 500)),
        piece_bytes=data.draw(st.integers(1, 200)),
    )

    seen = np.zeros(shape, int)
    for slab in walk.slabs():
        for piece in walk.pieces(slab):
            seen[piece] += 1
    assert (seen == 1).all()


def test_slabs_hold_whole_pages_of_the_source_where_memory_allows() -> None:
    walk = walk_of(
        (256, 1024, 1024), (64, 512, 512), (1, 1024, 1024), item_bytes=2, slab_bytes=130 << 20, piece_bytes=16 << 20
    )

    assert walk.slab == (64, 1024, 1024)
    assert walk.piece == (8, 1024, 1024)


def test_slabs_shrink_to_rows_of_pages_that_are_too_large() -> None:
    walk = walk_of(
        (64, 30_000, 30_000),
        (64, 512, 512),
        (1, 30_000, 30_000),
        item_bytes=2,
        slab_bytes=130 << 20,
        piece_bytes=16 << 20,
    )

    assert walk.slab == (64, 512, 2048)


def test_few_coarse_shards_are_half_full_at_a_time() -> None:
    # A volume of which no plane fits: a walk row by row would keep a whole plane of coarser shards open.
    shape, shard, levels = (1024, 4096, 4096), (64, 512, 512), 5
    walk = walk_of(shape, shard, None, item_bytes=2, slab_bytes=32 << 20, piece_bytes=32 << 20)
    filled: list[dict[tuple[int, ...], int]] = [{} for _ in range(levels)]
    most = 0
    for slab in walk.slabs():
        for level in range(1, levels):
            start = [s.start >> level for s in slab]
            size = [(s.stop - s.start) >> level for s in slab]
            cell = [min(c, n >> level) for c, n in zip(shard, shape, strict=True)]
            for index, into, _ in boxes(start, size, cell):
                filled[level][index] = filled[level].get(index, 0) + prod(s.stop - s.start for s in into)
                if filled[level][index] == prod(cell):
                    del filled[level][index]
        most = max(most, sum(len(level) for level in filled))

    assert not any(filled)
    assert most <= levels


@settings(deadline=None)
@given(st.data())
def test_boxes_cut_a_block_along_the_cells_of_a_grid(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))
    start = [data.draw(st.integers(0, 20)) for _ in range(rank)]
    shape = [data.draw(st.integers(1, 20)) for _ in range(rank)]
    cell = [data.draw(st.integers(1, 7)) for _ in range(rank)]
    block = np.arange(prod(shape)).reshape(shape)
    whole = np.full([a + n + c for a, n, c in zip(start, shape, cell, strict=True)], -1)

    for index, into, part in boxes(start, shape, cell):
        corner = [i * c for i, c in zip(index, cell, strict=True)]
        whole[tuple(slice(k + s.start, k + s.stop) for k, s in zip(corner, into, strict=True))] = block[part]

    np.testing.assert_array_equal(whole[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))], block)
    assert (whole >= 0).sum() == block.size


def test_a_box_grows_row_by_row() -> None:
    assert grown((1, 1, 1), (10, 20, 30), item_bytes=1, max_bytes=100) == (1, 3, 30)


def test_coarser_shards_are_no_deeper_than_the_finest_so_that_they_fill_as_it_is_read() -> None:
    finest = shard_of((2048, 1024, 1024), (64, 64, 64), item_bytes=2)

    assert finest == (64, 512, 512)
    assert shard_of((512, 256, 256), (64, 64, 64), item_bytes=2) == (256, 256, 256)
    assert shard_of((512, 256, 256), (64, 64, 64), item_bytes=2, within=finest) == (64, 256, 256)


def test_half_full_shards_of_all_coarser_levels_take_less_than_half_a_slab_of_a_volume() -> None:
    image = image_of(np.broadcast_to(np.zeros((), "u2"), (2048, 1024, 1024)), "zyx")
    levels = plan_levels(image.axes, (64, 64, 64))
    finest = (64, 512, 512)
    shards = [shard_of(level.shape, (64, 64, 64), item_bytes=2, within=finest) for level in levels]

    slab_bytes = 64 * 1024 * 1024 * 2
    assert half_full_bytes((64, 1024, 1024), levels, shards, item_bytes=2) < slab_bytes / 2
