"""Every real TIFF, compared value by value with tifffile, and what its headers mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from scientistcloud.converters.registry import open_source
from scientistcloud.errors import UnreadableSource
from scientistcloud.omezarr.image import AxisKind, Source
from scientistcloud.testing.converters import regions, whole

FILES = {
    "tiff/landsat_rgb.tif": ("TIFF RGB", "cyx"),
    "tiff/microscopy_3d.tif": ("TIFF", "zyx"),
    "tiff/metamorph_stuck.tif": ("TIFF", "zyx"),
    "tiff/BigTIFF.tif": ("TIFF RGB", "cyx"),
    "tiff/BigTIFFMotorola.tif": ("TIFF RGB", "cyx"),
    "tiff/BigTIFFLong8Tiles.tif": ("TIFF RGB", "cyx"),
    "tiff/BigTIFFSubIFD8.tif": ("TIFF RGB", "czyx"),
    "tiff/ome/multi-channel.ome.tif": ("TIFF", "cyx"),
    "geotiff/uav_australia_18mm.tif": ("TIFF RGB", "cyx"),
    "geotiff/neon_osbs_029.tif": ("TIFF RGB", "cyx"),
}


def described(path: Path) -> Source:
    reader = open_source(path)
    try:
        return reader.describe()
    finally:
        reader.close()


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_gives_the_values_that_tifffile_gives(data: Path, name: str) -> None:
    sensor, axes = FILES[name]
    reader = open_source(data / name)
    source = reader.describe()
    image = source.images[0]
    theirs = tifffile.imread(data / name)
    theirs = theirs.transpose(image.transposed) if image.transposed else theirs

    ours = reader.read(0, whole(image))
    parts = [(reader.read(0, region), theirs[region]) for region in regions(image)]
    reader.close()

    assert source.sensor == sensor
    assert "".join(axis.name for axis in image.axes) == axes
    assert ours.dtype.isnative
    assert ours.dtype == theirs.dtype
    assert np.array_equal(ours, theirs)
    assert all(np.array_equal(part, of_theirs) for part, of_theirs in parts)


def test_samples_of_pixels_move_to_a_channel_axis_and_it_is_said(data: Path) -> None:
    image = described(data / "tiff/landsat_rgb.tif").images[0]

    assert image.shape == (3, 718, 791)
    assert image.transposed == (2, 0, 1)
    assert image.rgb
    assert [(channel.label, channel.color) for channel in image.channels] == [
        ("red", "FF0000"),
        ("green", "00FF00"),
        ("blue", "0000FF"),
    ]


def test_an_ome_tiff_of_signed_bytes_in_big_endian_order_has_its_channels(data: Path) -> None:
    image = described(data / "tiff/ome/multi-channel.ome.tif").images[0]

    assert (image.shape, image.dtype, image.transposed) == ((3, 167, 439), np.dtype("int8"), None)
    assert image.axes[0].kind is AxisKind.CHANNEL
    assert len(image.channels) == 3
    assert not image.rgb


def test_a_folder_of_projections_is_one_stack_and_dark_and_flat_are_none_of_its_slices(data: Path) -> None:
    folder = data / "tiff/series"
    reader = open_source(folder)
    source = reader.describe()

    ours = reader.read(0, whole(source.images[0]))
    others = [reader.read(number, whole(source.images[number])) for number in (1, 2)]
    reader.close()

    assert [axis.name for axis in source.images[0].axes] == ["z", "y", "x"]
    assert ours.shape == (90, 135, 160)
    theirs = [tifffile.imread(folder / f"raw_{number:05}.tiff") for number in range(90)]
    assert np.array_equal(ours, np.stack(theirs))
    assert [image.source_name for image in source.images[1:]] == ["savu_dark_00001.tiff", "savu_flat_00001.tiff"]
    assert np.array_equal(others[0], tifffile.imread(folder / "savu_dark_00001.tiff"))
    assert any("savu_dark_00001.tiff, savu_flat_00001.tiff: no slices" in warning for warning in source.warnings)


def test_one_projection_alone_is_a_plane(data: Path) -> None:
    assert described(data / "tiff/series/raw_00007.tiff").images[0].shape == (135, 160)


def test_a_sound_header_over_a_tile_that_is_cut_off_is_described_but_not_read(data: Path) -> None:
    reader = open_source(data / "bad/corrupt.tif")
    source = reader.describe()

    with pytest.raises(UnreadableSource) as refused:
        reader.read(0, (slice(0, 3), slice(0, 16), slice(0, 16)))
    reader.close()

    assert (source.sensor, source.images[0].shape) == ("TIFF RGB", (3, 1024, 1024))
    assert str(refused.value) == ("corrupt.tif ends at byte 298232, within tile 4 of 4 of page 1; upload it again")
    assert str(refused.value) in source.warnings


def test_the_mask_and_the_overviews_of_a_picture_are_not_the_picture(data: Path) -> None:
    reader = open_source(data / "bad/corrupt.tif")
    images = reader.describe().images

    mask = reader.read(1, whole(images[1]))
    reader.close()

    assert [(image.name, image.shape) for image in images] == [("image", (3, 1024, 1024)), ("mask", (1024, 1024))]
    assert images[1].reduction == "mode"
    with tifffile.TiffFile(data / "bad/corrupt.tif") as tiff:
        assert np.array_equal(mask, tiff.series[1].asarray())
