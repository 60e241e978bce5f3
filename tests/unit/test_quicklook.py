"""A quick look: which pixels are picked, and that they are those of the image."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scientistcloud.omezarr import quicklook
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Coordinate, Image
from scientistcloud.omezarr.quicklook import look, plan, plan_array
from scientistcloud.testing.arrays import ArrayReader, image_of

KINDS = {"t": AxisKind.TIME, "c": AxisKind.CHANNEL}


def huge(shape: tuple[int, ...], axes: str, block: tuple[int, ...] | None) -> Image:
    made = tuple(
        Axis(name=name, kind=KINDS.get(name, AxisKind.SPACE), length=n) for name, n in zip(axes, shape, strict=True)
    )
    return Image(name="image", source_name="huge", axes=made, dtype=np.dtype("u2"), source_chunk=block)


@pytest.mark.parametrize(
    ("shape", "axes", "block", "least"),
    [
        ((2048, 2048, 2048), "zyx", (1, 1, 2048), (32, 64, 64)),  # 16 GiB, rows
        ((8192, 8192, 8192), "zyx", (1, 1, 8192), (32, 64, 64)),  # 1 TiB, rows
        ((8192, 8192, 8192), "zyx", (64, 64, 64), (1, 64, 64)),  # 1 TiB, cubes: one plane of them
        ((1000, 2048, 2048), "zyx", (1, 2048, 2048), (32, 64, 64)),  # 8 GiB, whole compressed pages
        ((100_000, 100_000), "yx", (256, 256), (48, 48)),  # 19 GiB, tiles
        ((5000, 50, 512, 512), "tzyx", None, (1, 50, 64, 64)),
        ((1000, 3, 2048, 2048), "tcyx", (1, 1, 256, 256), (1, 3, 512, 512)),
    ],
)
def test_seconds_for_any_size(
    shape: tuple[int, ...], axes: str, block: tuple[int, ...] | None, least: tuple[int, ...]
) -> None:
    image = huge(shape, axes, block)

    planned = plan(image)

    assert planned is not None
    counts = [len(pick) for pick in planned.picks]
    assert all(count >= few for count, few in zip(counts, least, strict=True)), counts
    assert prod(counts) <= quicklook.VOXELS
    assert quicklook._cheapest(image, planned.picks)[1] < 10


@pytest.mark.parametrize(
    ("shape", "block"),
    [
        ((256, 256, 256, 256), (1, 1, 256, 256)),  # 8 GiB, a chunk for each frame
        ((100, 100, 2048, 2048), (1, 1, 2048, 2048)),  # 78 GiB, large frames
        ((512, 512, 128, 128), (8, 8, 16, 16)),
        ((4, 5, 6, 7), None),
    ],
)
def test_a_scan_of_any_size_is_looked_at_in_seconds(shape: tuple[int, ...], block: tuple[int, ...] | None) -> None:
    image = huge(shape, "abyx", block)

    planned = plan_array(image)

    assert planned is not None
    counts = [len(pick) for pick in planned.picks]
    assert all(count >= min(n, 5) for count, n in zip(counts, shape, strict=True)), counts
    assert prod(counts) <= quicklook.VOXELS
    assert quicklook._cheapest(image, planned.picks)[1] <= 10


def test_what_would_take_long_is_not_looked_at() -> None:
    assert plan(huge((1_000_000, 1_000_000), "yx", (100_000, 100_000))) is None


@st.composite
def images(draw: st.DrawFn) -> tuple[Image, Array]:
    axes = draw(st.sampled_from(["yx", "zyx", "cyx", "tyx", "tczyx"]))
    shape = tuple(draw(st.integers(1, 3 if name == "c" else 40)) for name in axes)
    values = np.arange(prod(shape), dtype="u4").reshape(shape)
    block = draw(st.none() | st.tuples(*(st.integers(1, n) for n in shape)))
    return image_of(values, axes, source_chunk=block), values


@given(images(), st.integers(50, 5000), st.integers(200, 10_000))
def test_what_is_picked_is_what_is_there(made: tuple[Image, Array], voxels: int, held: int) -> None:
    image, values = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quicklook, "VOXELS", voxels)
        patch.setattr(quicklook, "_HELD_BYTES", held)
        patch.setattr("scientistcloud.omezarr.grid._SQUARE", 4)
        patch.setattr("scientistcloud.omezarr.grid._CUBE", 4)
        planned = plan(image)
        assert planned is not None
        looked = look(ArrayReader((image, values)), 0, image, report=lambda: None)
    assert looked is not None
    small, seen = looked

    assert small.shape == seen.shape
    np.testing.assert_array_equal(seen, values[np.ix_(*planned.picks)])


def test_pixels_keep_their_places() -> None:
    values = np.zeros((512, 1024), "u1")
    axes = (
        Axis(name="y", kind=AxisKind.SPACE, length=512, spacing=0.5, origin=10, unit="micrometer"),
        Axis(name="x", kind=AxisKind.SPACE, length=1024, spacing=0.25, origin=-3, unit="micrometer"),
    )
    along = Coordinate(name="x", dims=("x",), values=-3 + 0.25 * np.arange(1024))
    image = image_of(values, axes, coordinates=(along,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quicklook, "VOXELS", 1 << 15)
        looked = look(ArrayReader((image, values)), 0, image, report=lambda: None)
    assert looked is not None
    small = looked[0]

    assert [(axis.length, axis.spacing, axis.origin) for axis in small.axes] == [(128, 2.0, 11.0), (256, 1.0, -2.5)]
    np.testing.assert_array_equal(small.coordinates[0].values, -2.5 + np.arange(256))
