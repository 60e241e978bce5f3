"""What a look at a few places decides: reduction and compression."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest

from scientistcloud.omezarr.codec import choose
from scientistcloud.omezarr.image import Array, Reduction
from scientistcloud.omezarr.sampling import decide_reduction, places
from scientistcloud.testing.arrays import image_of

RANDOM = np.random.default_rng(7)
COUNTS = RANDOM.poisson(0.5, (16, 64, 64)).astype("u2")


@pytest.mark.parametrize(
    ("values", "fields", "wanted"),
    [
        (COUNTS, {}, Reduction.MAXIMUM),
        (COUNTS + np.uint16(100), {}, Reduction.MEAN),
        (COUNTS.astype("i4") - 3, {}, Reduction.MEAN),  # negative: no counts
        (COUNTS.astype("f4"), {}, Reduction.MEAN),
        (COUNTS, {"attributes": {"scale_factor": 0.1}}, Reduction.MEAN),  # packed: no counts
        (COUNTS, {"reduction": Reduction.NEAREST}, Reduction.NEAREST),
        (COUNTS, {"attributes": {"flag_values": [0, 1]}}, Reduction.MODE),
        (COUNTS, {"attributes": {"flag_masks": [1, 2]}}, Reduction.OR),
        (COUNTS > 0, {}, Reduction.MODE),
        (np.where(COUNTS > 1, 65535, COUNTS + 1).astype("u2"), {"fill": (65535,)}, Reduction.MAXIMUM),
    ],
)
def test_counts_keep_their_maximum_and_everything_else_its_mean(
    values: Array, fields: dict[str, Any], wanted: Reduction
) -> None:
    assert decide_reduction(image_of(values, "zyx", **fields), [values]) is wanted


def test_dark_colours_are_no_counts() -> None:
    dark = np.ones((3, 64, 64), "u1")

    assert decide_reduction(image_of(dark, "cyx", rgb=True), [dark]) is Reduction.MEAN


def test_a_small_image_is_looked_at_whole_and_a_large_one_at_eight_places() -> None:
    small = image_of(np.zeros((4, 100, 100), "u1"))
    large = image_of(np.broadcast_to(np.uint16(0), (256, 4096, 4096)), "zyx")

    assert places(small) == [(slice(0, 4), slice(0, 100), slice(0, 100))]
    assert len(places(large)) == 8
    assert len({region[0].start for region in places(large)}) == 8
    for region in places(large):
        assert all(0 <= s.start < s.stop <= n for s, n in zip(region, large.shape, strict=True))


def test_blocks_of_the_source_that_cost_much_are_looked_at_less_often() -> None:
    shape = (64, 8192, 8192)
    image = image_of(np.broadcast_to(np.uint16(0), shape), "zyx", source_chunk=(1, 8192, 8192))

    assert len(places(image)) == 1


@pytest.mark.parametrize("block", [(256, 16, 16), (256, 1024, 8), (100, 100, 100), (1, 1, 1), (4, 256, 256)])
def test_a_look_touches_few_of_the_sources_blocks_however_they_lie(block: tuple[int, ...]) -> None:
    shape = (256, 1024, 1024)
    image = image_of(np.broadcast_to(np.uint16(0), shape), "zyx", source_chunk=block)

    touched = {
        place
        for region in places(image)
        for place in product(
            *(range(s.start // b, (s.stop - 1) // b + 1) for s, b in zip(region, block, strict=True))
        )
    }
    assert len(touched) * prod(block) * 2 <= 64 << 20 or len(places(image)) == 1
    assert len(touched) * prod(block) * 2 <= 80 << 20
    assert all(s.stop - s.start >= 128 for region in places(image) for s in region[1:])


def test_zstd_is_chosen_where_it_saves_a_tenth() -> None:
    noise = RANDOM.integers(0, 65536, (512, 512)).astype("u2")
    texture = (np.add.outer(np.arange(512), np.arange(512)) // 3 * 7 % 1009).astype("u2")

    assert choose([noise]).name == "lz4"
    assert choose([noise]).ratio == pytest.approx(1, abs=0.01)
    assert choose([texture]).name == "zstd"
    assert choose([texture]).ratio < 0.5
    assert choose([texture], "lz4").name == "lz4"
    assert choose([]).ratio == 1
