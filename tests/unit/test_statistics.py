"""Window and histogram of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scientistcloud.omezarr.image import Array
from scientistcloud.omezarr.pyramid import Level
from scientistcloud.omezarr.statistics import Tally, Window, level_for_statistics
from scientistcloud.testing.arrays import image_of


def tally_of(values: Array, axes: str = "", **fields: Any) -> Tally:
    tally = Tally(image_of(values, axes, **fields), Level(values.shape, (), ()))
    half = values.shape[-2] // 2  # in two blocks, the second first
    tally.add((*[0] * (values.ndim - 2), half, 0), values[..., half:, :])
    tally.add((0,) * values.ndim, values[..., :half, :])
    return tally


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_the_window_goes_from_the_1st_to_the_99th_percentile(dtype: str) -> None:
    values = np.random.default_rng(2).normal(100, 8, (200, 300)).astype(dtype)

    (window,) = tally_of(values).windows()

    start, end = np.percentile(values, [1, 99], method="inverted_cdf")
    assert window == Window(values.min(), values.max(), start, end)


def test_fill_nan_infinity_and_what_is_out_of_the_valid_range_do_not_count() -> None:
    values = np.full((10, 30), 5.0, "f4")
    values[0] = [-999, np.nan, np.inf, 1e9, -np.inf] * 6
    values[1] = 6.0

    (window,) = tally_of(values, fill=(-999.0,), valid_range=(0.0, 1e6)).windows()
    (histogram,) = tally_of(values, fill=(-999.0,), valid_range=(0.0, 1e6)).histograms()

    assert window == Window(0.0, 1e6, 5.0, 6.0)
    assert sum(histogram.counts) == 270


def test_saturated_pixels_do_not_stretch_the_window() -> None:
    values = np.random.default_rng(2).integers(10, 50, (100, 100)).astype("u2")
    values[:50] = 65535

    (window,) = tally_of(values).windows()

    assert window.end < 50
    assert window.max == 65535


def test_each_channel_has_its_own_window_and_red_green_blue_share_one() -> None:
    values = np.stack([np.full((4, 4), n, "u2") for n in (10, 2000, 300)])
    values[:, 0, 0] = 0

    channels = tally_of(values, "cyx").windows()
    colours = tally_of(values, "cyx", rgb=True).windows()
    bytes_ = tally_of(values.astype("u1"), "cyx", rgb=True).windows()

    assert [window.end for window in channels] == [10, 2000, 300]
    assert set(colours) == {Window(0, 2000, 0, 2000)}
    assert set(bytes_) == {Window(0, 255, 0, 255)}


@pytest.mark.parametrize("dtype", ["?", "u1", "f4", "c8"])
def test_constant_images_and_images_of_nothing_still_have_a_range(dtype: str) -> None:
    constant = np.ones((4, 4), dtype)

    for tally in (tally_of(constant), tally_of(constant, fill=(1,))):
        (window,) = tally.windows()
        (histogram,) = tally.histograms()

        assert window.end > window.start
        assert window.max > window.min
        assert histogram.high > histogram.low
        assert len(histogram.counts) == 256


@pytest.mark.parametrize(
    "values",
    [
        np.full((2, 2), 293589731999130585),
        np.full((2, 2), -(2**62)),
        np.array([[2**60], [2**60 + 200]]),
        np.full((2, 2), np.finfo("f8").max),
        np.full((2, 2), np.finfo("f8").min),
        np.array([[1e22], [np.nextafter(1e22, 2e22)]]),
        np.array([[0.0], [5e-324]]),
    ],
)
def test_values_between_which_no_256_doubles_lie_have_a_range_and_are_counted(values: Array) -> None:
    tally = tally_of(values)
    (window,) = tally.windows()
    (histogram,) = tally.histograms()

    assert np.isfinite([window.start, window.end, histogram.low, histogram.high]).all()
    assert window.start < window.end
    assert sum(histogram.counts) == values.size


def test_one_far_outlier_leaves_the_histogram_readable() -> None:
    values = np.random.default_rng(2).normal(0, 1, (200, 200))
    values[0, 0] = 1e30

    (histogram,) = tally_of(values).histograms()

    assert sum(n > 0 for n in histogram.counts) > 100


@settings(deadline=None)
@given(st.lists(st.integers(-128, 127), min_size=2, max_size=60))
def test_every_value_of_a_small_integer_image_is_in_the_histogram_or_beyond_its_ends(numbers: list[int]) -> None:
    values = np.array([numbers, numbers], "i1")

    (histogram,) = tally_of(values).histograms()

    inside = (values >= histogram.low) & (values <= histogram.high)
    assert sum(histogram.counts) == inside.sum()


def test_statistics_come_from_the_finest_level_of_16_million_voxels() -> None:
    shapes = [(256, 1024, 1024), (128, 512, 512), (64, 256, 256)]

    assert level_for_statistics([Level(shape, (), ()) for shape in shapes]) == 2
    assert level_for_statistics([Level(shapes[0], (), ())]) == 0
