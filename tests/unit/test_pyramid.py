"""Which levels there are, and what each value of a level is made of."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scientistcloud.omezarr.image import Array, Axis, AxisKind, Reduction
from scientistcloud.omezarr.pyramid import downsample, plan_levels

INTEGERS = ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
FLOATS = ["f2", "f4", "f8"]


def space(*axes: tuple[str, int, float | None, str | None]) -> list[Axis]:
    return [
        Axis(name=name, kind=AxisKind.SPACE, length=length, spacing=spacing, unit=unit)
        for name, length, spacing, unit in axes
    ]


def boxes_of(block: Array, steps: tuple[int, ...]) -> dict[tuple[int, ...], list[Any]]:
    """The values of each box, taken one by one."""
    out: dict[tuple[int, ...], list[Any]] = {}
    for index in product(*map(range, block.shape)):
        box = tuple(i // step for i, step in zip(index, steps, strict=True))
        out.setdefault(box, []).append(block[index].item())
    return out


@st.composite
def blocks(draw: st.DrawFn, dtypes: list[str]) -> tuple[Array, tuple[int, ...]]:
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=3))
    steps = draw(
        st.tuples(*[st.sampled_from([1, 2])] * len(shape)).filter(lambda s: sum(each == 2 for each in s) < 4)
    )
    few = st.integers(0, 3).map(lambda n: dtype.type(n))
    return draw(hnp.arrays(dtype, shape, elements=draw(st.sampled_from([None, few])))), steps


# -- which levels --------------------------------------------------------------------------------


def test_a_volume_with_cubic_voxels_is_halved_in_all_three_axes_until_it_fits_one_chunk() -> None:
    axes = space(("z", 256, 1.0, "micrometer"), ("y", 1024, 1.0, "micrometer"), ("x", 1000, 1.0, "micrometer"))

    levels = plan_levels(axes, (64, 64, 64))

    assert [level.shape for level in levels] == [
        (256, 1024, 1000), (128, 512, 500), (64, 256, 250), (32, 128, 125), (16, 64, 63),
    ]  # fmt: skip
    assert [level.factors for level in levels] == [(n, n, n) for n in (1, 2, 4, 8, 16)]


def test_planes_far_apart_are_not_merged_before_their_pixels_have_grown_as_large() -> None:
    axes = space(("z", 100, 5.0, "micrometer"), ("y", 512, 1.0, "micrometer"), ("x", 512, 1.0, "micrometer"))

    levels = plan_levels(axes, (64, 64, 64))

    # Spacing of z by that of x: 5, 2.5, 1.25 (at most the root of two): only then it is halved.
    assert [level.factors[0] for level in levels] == [1, 1, 1, 2]


def test_planes_whose_distance_nobody_told_are_merged_while_they_are_more_than_a_chunk() -> None:
    axes = space(("z", 200, None, None), ("y", 2048, None, None), ("x", 2048, None, None))

    levels = plan_levels(axes, (64, 64, 64))

    assert [level.shape[0] for level in levels] == [200, 100, 50, 50, 50, 50]


def test_time_and_channels_are_never_halved() -> None:
    axes = [
        Axis(name="t", kind=AxisKind.TIME, length=1000),
        Axis(name="c", kind=AxisKind.CHANNEL, length=300),
        *space(("y", 1000, None, None), ("x", 1000, None, None)),
    ]

    levels = plan_levels(axes, (1, 1, 256, 256))

    assert [level.shape for level in levels] == [(1000, 300, n, n) for n in (1000, 500, 250)]


def test_a_limit_of_levels_is_kept() -> None:
    levels = plan_levels(space(("y", 10_000, None, None), ("x", 10_000, None, None)), (256, 256), limit=2)

    assert [level.shape for level in levels] == [(10_000, 10_000), (5000, 5000)]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 3000), min_size=2, max_size=3),
    st.lists(st.sampled_from([None, 0.1, 1.0, 1.5, 40.0]), min_size=3, max_size=3),
)
def test_levels_always_end_and_each_is_half_of_the_one_before(
    lengths: list[int], spacings: list[float | None]
) -> None:
    named = [
        (name, n, s, "meter" if s else None)
        for name, n, s in zip("zyx"[-len(lengths) :], lengths, spacings, strict=False)
    ]

    levels = plan_levels(space(*named), (64,) * len(lengths))

    for before, after in pairwise(levels):
        assert prod(after.steps) > 1
        assert after.shape == tuple(-(-n // s) for n, s in zip(before.shape, after.steps, strict=True))
        assert after.factors == tuple(f * s for f, s in zip(before.factors, after.steps, strict=True))
    assert all(n <= 64 for n in levels[-1].shape)


# -- the values ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(blocks(INTEGERS[1:]))
def test_the_mean_of_integers_is_exact_and_rounded_half_to_even(case: tuple[Array, tuple[int, ...]]) -> None:
    block, steps = case

    out = downsample(block, steps, reduction=Reduction.MEAN)

    assert out.dtype == block.dtype
    for index, values in boxes_of(block, steps).items():
        assert out[index] == round(Fraction(sum(values), len(values)))  # Python rounds half to even


@settings(deadline=None)
@given(blocks(INTEGERS[1:]), st.lists(st.integers(0, 3), min_size=1, max_size=2))
def test_fill_values_have_no_part_in_the_mean(case: tuple[Array, tuple[int, ...]], fill: list[int]) -> None:
    block, steps = case

    out = downsample(block, steps, reduction=Reduction.MEAN, fill=fill)

    for index, values in boxes_of(block, steps).items():
        good = [value for value in values if value not in fill]
        assert out[index] == (round(Fraction(sum(good), len(good))) if good else fill[0])


@settings(deadline=None)
@given(blocks(FLOATS))
def test_nan_has_no_part_in_the_mean_of_floats(case: tuple[Array, tuple[int, ...]]) -> None:
    block, steps = case

    out = downsample(block, steps, reduction=Reduction.MEAN)

    assert out.dtype == block.dtype
    for index, values in boxes_of(block, steps).items():
        good = np.array([value for value in values if value == value], "f8")
        with np.errstate(all="ignore"):
            wanted = (good / 8).sum() / (len(good) / 8) if good.size else np.nan  # does not overflow
            wanted = np.float64(wanted).astype(block.dtype)
            # Sums of doubles depend on their order in the last bits.
            np.testing.assert_allclose(out[index], wanted, rtol=1e-3 if block.dtype == "f2" else 1e-6, atol=1e-300)


def test_a_fill_value_of_floats_is_left_out_like_nan() -> None:
    block = np.array([[1.0, -1e30], [3.0, np.nan], [-1e30, -1e30], [-1e30, np.nan]], "f4")

    out = downsample(block, (2, 2), reduction=Reduction.MEAN, fill=[-1e30])

    np.testing.assert_array_equal(out, np.array([[2.0], [-1e30]], "f4"))


def test_means_of_the_greatest_integers_do_not_overflow() -> None:
    for name in ("u8", "i8", "u4", "i4"):
        top = np.iinfo(name).max
        block = np.full((2, 2, 2), top, name)

        assert downsample(block, (2, 2, 2), reduction=Reduction.MEAN) == top


def test_the_mean_of_the_greatest_doubles_does_not_overflow() -> None:
    top = np.finfo("f8").max

    assert downsample(np.full((2, 2, 2), top), (2, 2, 2), reduction=Reduction.MEAN) == top


@settings(deadline=None)
@given(blocks([*INTEGERS, *FLOATS]))
def test_the_maximum_leaves_nan_out(case: tuple[Array, tuple[int, ...]]) -> None:
    block, steps = case

    out = downsample(block, steps, reduction=Reduction.MAXIMUM)

    for index, values in boxes_of(block, steps).items():
        good = [value for value in values if value == value]
        # -0.0 and 0.0 are equal, and either may be the greatest.
        assert (out[index] == max(good)) if good else np.isnan(out[index])


@settings(deadline=None)
@given(blocks(INTEGERS[1:]))
def test_the_maximum_leaves_the_fill_value_out(case: tuple[Array, tuple[int, ...]]) -> None:
    block, steps = case

    out = downsample(block, steps, reduction=Reduction.MAXIMUM, fill=[3])

    for index, values in boxes_of(block, steps).items():
        assert out[index] == max((value for value in values if value != 3), default=3)


@settings(deadline=None)
@given(blocks(INTEGERS))
def test_the_mode_is_the_most_frequent_value_and_the_smallest_of_equals(
    case: tuple[Array, tuple[int, ...]],
) -> None:
    block, steps = case

    out = downsample(block, steps, reduction=Reduction.MODE)

    for index, values in boxes_of(block, steps).items():
        assert out[index] == min(values, key=lambda value: (-values.count(value), value))


@settings(deadline=None)
@given(blocks(INTEGERS))
def test_flags_are_united_and_the_nearest_is_the_first(case: tuple[Array, tuple[int, ...]]) -> None:
    block, steps = case

    united = downsample(block, steps, reduction=Reduction.OR)
    nearest = downsample(block, steps, reduction=Reduction.NEAREST)

    for index, values in boxes_of(block, steps).items():
        assert united[index] == np.bitwise_or.reduce(np.array(values, block.dtype))
        assert nearest[index] == values[0]


def test_a_large_block_gives_the_same_as_its_parts() -> None:
    # Larger than what is done at once, so the walk inside has several steps.
    block = np.random.default_rng(1).integers(0, 65536, (7, 400, 1001)).astype("u2")

    whole = downsample(block, (2, 2, 2), reduction=Reduction.MEAN)

    parts = [downsample(block[i : i + 2], (2, 2, 2), reduction=Reduction.MEAN) for i in range(0, 7, 2)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_rounded_means_would_lose_a_signal_of_single_counts_and_the_maximum_keeps_it() -> None:
    counts = np.random.default_rng(5).poisson(0.2, (64, 64, 64)).astype("u2")

    mean, most = counts, counts
    for _ in range(3):
        mean = downsample(mean, (2, 2, 2), reduction=Reduction.MEAN)
        most = downsample(most, (2, 2, 2), reduction=Reduction.MAXIMUM)

    assert mean.max() == 0
    assert most.max() == counts.max()


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_values_are_averaged_as_they_are(dtype: str) -> None:
    block = np.array([[1 + 1j, 3 - 1j], [5j, np.nan]], dtype)

    out = downsample(block, (2, 2), reduction=Reduction.MEAN)

    np.testing.assert_allclose(out, [[(4 + 5j) / 3]], rtol=1e-6)


@pytest.mark.parametrize("reduction", [each for each in Reduction if each is not Reduction.OR])
@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_a_nan_that_signals_warns_nobody(reduction: Reduction, dtype: str) -> None:
    block = np.full(16 if dtype == "f4" else 32, 0x7FA00001, np.uint32).view(dtype).reshape(4, 4)

    assert np.isnan(downsample(block, (2, 2), reduction=reduction)).all()
