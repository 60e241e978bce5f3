"""What is easily got wrong with TIFF, shown on fixtures where no real file shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw_tiff
import tifffile
from raw_tiff import LONG, RATIONAL, SHORT, Tag

from scientistcloud.converters.registry import open_source
from scientistcloud.omezarr.image import Array, AxisKind, Image, Source
from scientistcloud.testing.converters import regions, whole

RANDOM = np.random.default_rng(7)


def numbers(*shape: int, dtype: Any = np.uint8) -> Array:
    return RANDOM.integers(0, 200, shape).astype(dtype)


def read(path: Path) -> tuple[Source, Array]:
    reader = open_source(path)
    try:
        source = reader.describe()
        values = reader.read(0, whole(source.images[0]))
        assert all(np.array_equal(reader.read(0, part), values[part]) for part in regions(source.images[0]))
        return source, values
    finally:
        reader.close()


def names(image: Image) -> str:
    return "".join(axis.name for axis in image.axes)


def spacing(image: Image) -> dict[str, tuple[float | None, str | None]]:
    return {axis.name: (axis.spacing, axis.unit) for axis in image.axes}


# -- how pixels are stored ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_each_type_in_each_byte_order_is_read_as_it_is(tmp_path: Path, dtype: str, order: Any) -> None:
    values = numbers(5, 20, 30, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=order)

    source, got = read(tmp_path / "a.tif")

    assert got.dtype == source.images[0].dtype == np.dtype(dtype)
    assert np.array_equal(got, values)


@pytest.mark.parametrize(
    "storage",
    [
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw", "rowsperstrip": 5},
        {"compression": "zstd", "tile": (16, 32), "predictor": True},
        {"compression": "packbits"},
        {"tile": (32, 16)},
        {"rowsperstrip": 7},
        {"compression": "deflate", "rowsperstrip": 40},
    ],
    ids=str,
)
def test_strips_tiles_and_predictors_never_change_a_value(tmp_path: Path, storage: dict[str, Any]) -> None:
    values = numbers(5, 61, 83, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, metadata=None, **storage)

    _, got = read(tmp_path / "a.tif")

    assert np.array_equal(got, values)


def test_the_predictor_of_floating_point_numbers(tmp_path: Path) -> None:
    values = RANDOM.normal(size=(50, 70)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, compression="zlib", predictor=3, byteorder=">")

    assert np.array_equal(read(tmp_path / "a.tif")[1], values)


def test_bits_become_bytes_of_0_and_1(tmp_path: Path) -> None:
    values = numbers(21, 37) > 100
    tifffile.imwrite(tmp_path / "a.tif", values)

    source, got = read(tmp_path / "a.tif")

    assert source.images[0].dtype == np.uint8
    assert np.array_equal(got, values)


def test_tiles_that_are_not_in_the_file_are_no_data(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    sizes = [16 * 16, 0, 0, 16 * 16]
    tags = [tag for tag in raw_tiff.picture(32, 32) if tag.code != 278]
    tags += [Tag(322, SHORT, 1, 16), Tag(323, SHORT, 1, 16)]
    tags += [Tag(324, LONG, 4, np.array([8, 0, 0, 264], "<u4").tobytes())]
    tags += [Tag(325, LONG, 4, np.array(sizes, "<u4").tobytes())]
    tags += [Tag(42113, 2, 2, ord("9"))]
    raw_tiff.write(path, tags, data=b"\1" * 256 + b"\2" * 256)

    _, got = read(path)

    assert np.array_equal(got, np.kron([[1, 9], [9, 2]], np.ones((16, 16))))


# -- what the axes are ----------------------------------------------------------------------------


def test_the_pages_of_a_stack_without_a_word_are_z(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in numbers(4, 10, 12):
            writer.write(plane, metadata=None, contiguous=False)

    assert names(read(tmp_path / "a.tif")[0].images[0]) == "zyx"


def test_a_person_may_say_that_they_are_time(tmp_path: Path, data: Path) -> None:
    from scientistcloud.converters.contract import ReadOptions

    reader = open_source(data / "tiff/metamorph_stuck.tif", options=ReadOptions(axes=("t", "y", "x")))
    image = reader.describe().images[0]
    reader.close()

    assert (names(image), image.axes[0].kind) == ("tyx", AxisKind.TIME)


def test_an_imagej_hyperstack_of_one_directory_has_all_its_axes(tmp_path: Path) -> None:
    values = numbers(2, 3, 4, 15, 17, dtype=np.uint16)
    options: Any = {"axes": "TZCYX", "spacing": 2.5, "unit": "um", "finterval": 0.5}
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata=options, resolution=(4.0, 2.0))

    source, got = read(tmp_path / "a.tif")

    image = source.images[0]
    assert names(image) == "tczyx"
    assert image.transposed == (0, 2, 1, 3, 4)
    assert np.array_equal(got, values.transpose(0, 2, 1, 3, 4))
    assert spacing(image) == {
        "t": (0.5, "second"),
        "c": (None, None),
        "z": (2.5, "micrometer"),
        "y": (0.5, "micrometer"),
        "x": (0.25, "micrometer"),
    }


def test_an_ome_tiff_says_its_sizes_channels_and_colours(tmp_path: Path) -> None:
    values = numbers(2, 3, 16, 18)
    options: Any = {
        "axes": "CZYX",
        "PhysicalSizeX": 0.2,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 200,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 0.5,
        "Channel": {"Name": ["DAPI", "GFP"], "Color": [65535, 16711935]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", values, metadata=options)

    source, got = read(tmp_path / "a.ome.tif")

    image = source.images[0]
    assert np.array_equal(got, values)
    assert spacing(image) == {
        "c": (None, None),
        "z": (0.5, "micrometer"),
        "y": (200.0, "nanometer"),
        "x": (0.2, "micrometer"),
    }
    # 65535 is 0x0000FFFF: no red, no green, blue, opaque.
    assert [(channel.label, channel.color) for channel in image.channels] == [("DAPI", "0000FF"), ("GFP", "00FF00")]
    assert "PhysicalSizeX" in source.metadata["ome_xml"]


def test_metamorph_says_whether_its_planes_are_z_or_time(tmp_path: Path) -> None:
    planes, rate = 3, []
    for plane in range(planes):  # distance as a fraction, date and time of creation and of change
        rate += [5, 10, 2450000, plane * 1000, 2450000, 0]
    pixels = numbers(planes, 6, 8)
    tags = [*raw_tiff.picture(8, 6, strip=8), Tag(33628, LONG, 2, np.array([0, 1, 1, 0], "<u4").tobytes())]
    tags += [Tag(33629, RATIONAL, planes, np.array(rate, "<u4").tobytes())]
    stack = raw_tiff.write(tmp_path / "a.stk", tags, data=pixels.tobytes())
    timed = [0 if place % 6 == 0 else number for place, number in enumerate(rate)]
    tags[-1] = Tag(33629, RATIONAL, planes, np.array(timed, "<u4").tobytes())
    series = raw_tiff.write(tmp_path / "b.stk", tags, data=pixels.tobytes())

    assert names(read(stack)[0].images[0]) == "zyx"
    assert names(read(series)[0].images[0]) == "tyx"
    assert np.array_equal(read(series)[1], pixels)


def test_more_axes_than_an_image_may_have_become_a_series_of_images(tmp_path: Path) -> None:
    values = numbers(2, 2, 3, 2, 9, 11)
    tifffile.imwrite(tmp_path / "a.tif", values, metadata={"axes": "QTZCYX"})
    reader = open_source(tmp_path / "a.tif")
    source = reader.describe()

    got = [reader.read(number, whole(image)) for number, image in enumerate(source.images)]
    reader.close()

    assert [names(image) for image in source.images] == ["tczyx", "tczyx"]
    assert [image.name for image in source.images] == ["image", "image_2"]
    assert all(np.array_equal(got[n], values[n].transpose(0, 2, 1, 3, 4)) for n in range(2))
    assert any("one image for each series" in warning for warning in source.warnings)


def test_pages_of_unequal_size_are_several_images_the_largest_first(tmp_path: Path) -> None:
    small, large = numbers(10, 12), numbers(20, 30)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(small, metadata=None)
        writer.write(large, metadata=None)
    reader = open_source(tmp_path / "a.tif")
    source = reader.describe()

    got = [reader.read(number, whole(image)) for number, image in enumerate(source.images)]
    reader.close()

    assert [image.shape for image in source.images] == [(20, 30), (10, 12)]
    assert np.array_equal(got[0], large)
    assert np.array_equal(got[1], small)
    assert "most voxels" in source.reason


def test_overviews_are_not_the_data(tmp_path: Path) -> None:
    values = numbers(64, 96)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(values, subifds=1, tile=(32, 32), metadata=None)
        writer.write(values[::2, ::2], subfiletype=1, tile=(32, 32), metadata=None)

    source, got = read(tmp_path / "a.tif")

    assert len(source.images) == 1
    assert np.array_equal(got, values)


# -- what the samples are -------------------------------------------------------------------------


def test_planar_colours_need_no_transposition(tmp_path: Path) -> None:
    values = numbers(3, 20, 24)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", planarconfig="separate", rowsperstrip=6)

    source, got = read(tmp_path / "a.tif")

    assert (source.sensor, source.images[0].rgb, source.images[0].transposed) == ("TIFF RGB", True, None)
    assert np.array_equal(got, values)


def test_a_stack_of_colour_pictures_has_its_channels_before_z(tmp_path: Path) -> None:
    values = numbers(4, 20, 24, 3)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")

    source, got = read(tmp_path / "a.tif")

    assert (names(source.images[0]), source.images[0].transposed) == ("czyx", (3, 0, 1, 2))
    assert np.array_equal(got, values.transpose(3, 0, 1, 2))


def test_a_fourth_sample_is_alpha_only_where_the_file_says_so(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgba.tif", numbers(20, 24, 4), photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "rgbn.tif", numbers(20, 24, 4), photometric="rgb", extrasamples=["unspecified"])

    with_alpha, with_infrared = (read(tmp_path / f"{name}.tif")[0] for name in ("rgba", "rgbn"))

    assert with_alpha.images[0].rgb
    assert [channel.label for channel in with_alpha.images[0].channels] == ["red", "green", "blue", "alpha"]
    assert not with_infrared.images[0].rgb
    assert with_infrared.images[0].channels[3].label == "extra"
    assert with_infrared.sensor == "TIFF RGB"


def test_three_bands_that_are_no_colours_are_channels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbers(20, 24, 3), photometric="minisblack", planarconfig="contig")

    source, _ = read(tmp_path / "a.tif")

    assert source.sensor == "TIFF"
    assert (names(source.images[0]), source.images[0].rgb) == ("cyx", False)


def test_inks_are_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbers(20, 24, 4), photometric="separated")

    channels = read(tmp_path / "a.tif")[0].images[0].channels

    assert [channel.label for channel in channels] == ["cyan", "magenta", "yellow", "black"]


def test_numbers_of_colours_are_kept_and_never_averaged(tmp_path: Path) -> None:
    values = numbers(20, 24)
    palette = RANDOM.integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=palette)

    source, got = read(tmp_path / "a.tif")

    assert np.array_equal(got, values)
    assert source.images[0].reduction == "mode"
    assert source.metadata["tags"]["ColorMap"] == palette.tolist()


def test_the_colours_in_which_imagej_shows_intensities_make_no_labels_of_them(tmp_path: Path) -> None:
    ramp = np.stack([np.arange(256), np.zeros(256), np.zeros(256)]).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", numbers(20, 24), imagej=True, colormap=ramp)
    grey = np.stack([np.arange(256)] * 3).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "b.tif", numbers(20, 24), photometric="palette", colormap=grey)

    assert read(tmp_path / "a.tif")[0].images[0].reduction is None
    assert read(tmp_path / "b.tif")[0].images[0].reduction is None


def test_where_0_is_white_the_values_stay_and_it_is_said(tmp_path: Path) -> None:
    values = numbers(20, 24)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")

    source, got = read(tmp_path / "a.tif")

    assert np.array_equal(got, values)
    assert any("0 is white" in warning for warning in source.warnings)


# -- spacing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600])
def test_what_printers_and_cameras_write_is_no_spacing(tmp_path: Path, dpi: int) -> None:
    tifffile.imwrite(tmp_path / "inch.tif", numbers(8, 9), resolution=(dpi, dpi), resolutionunit="inch")
    per_centimeter = dpi / 2.54
    options: Any = {"resolution": (per_centimeter, per_centimeter), "resolutionunit": "centimeter"}
    tifffile.imwrite(tmp_path / "cm.tif", numbers(8, 9), **options)

    for name in ("inch", "cm"):
        assert spacing(read(tmp_path / f"{name}.tif")[0].images[0]) == {"y": (None, None), "x": (None, None)}


def test_a_resolution_that_was_measured_is_a_spacing(tmp_path: Path) -> None:
    # 20 000 pixels per centimetre: half a micrometre.
    tifffile.imwrite(tmp_path / "a.tif", numbers(8, 9), resolution=(20000, 10000), resolutionunit="centimeter")

    found = spacing(read(tmp_path / "a.tif")[0].images[0])

    assert found == {"y": (1e-4, "centimeter"), "x": (5e-5, "centimeter")}


def test_imagejs_numbers_without_a_unit_are_pixels(tmp_path: Path) -> None:
    options: Any = {"imagej": True, "resolution": (4.0, 4.0), "metadata": {"spacing": 3.0}}
    tifffile.imwrite(tmp_path / "a.tif", numbers(3, 8, 9), **options)

    assert set(spacing(read(tmp_path / "a.tif")[0].images[0]).values()) == {(None, None)}
