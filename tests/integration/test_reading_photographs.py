"""Photographs: what is easily got wrong with them, each compared with what Pillow reads."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from photograph_files import DJI, chunk, exif, photograph, png, read, scene
from PIL import Image as Picture
from PIL import ImageCms, ImageOps
from valid_store import assert_valid

from scientistcloud.cli import group
from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.formats.photographs import gallery
from scientistcloud.converters.registry import open_source
from scientistcloud.errors import NoSpace, UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array, AxisKind, Reader, Source
from scientistcloud.tasks.conversion import compare, convert
from scientistcloud.testing.converters import whole


@contextmanager
def opened(path: Path, sensor: str = "auto", **options: Any) -> Iterator[Reader]:
    reader = open_source(path, sensor=sensor, options=ReadOptions(**options))
    try:
        yield reader
    finally:
        reader.close()


def look(path: Path, sensor: str = "auto") -> tuple[Source, list[Array]]:
    """What is there, and the values of every image."""
    with opened(path, sensor) as reader:
        source = reader.describe()
        return source, [reader.read(number, whole(image)) for number, image in enumerate(source.images)]


def samples_first(pixels: Array) -> Array:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def metadata_of(store: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store / "zarr.json").read_bytes())["attributes"]
    return found


# -- the right way up -----------------------------------------------------------------------------


def test_four_cameras_held_four_ways_give_the_same_picture(data: Path) -> None:
    made = {
        orientation: look(data / f"drone/orientation/Landscape_{orientation}.jpg")[1][0].astype(int)
        for orientation in (1, 3, 6, 8)
    }

    for orientation, pixels in made.items():
        assert pixels.shape == (3, 1200, 1800), orientation
        # Each is a compression of its own; turned wrongly they differ by 60.
        assert np.abs(pixels - made[1]).mean() < 8, orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation: int, tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg", orientation=orientation)
    with Picture.open(tmp_path / "a.jpg") as picture:
        wanted = np.array(ImageOps.exif_transpose(picture))

    source, (pixels,) = look(tmp_path / "a.jpg")

    np.testing.assert_array_equal(pixels, samples_first(wanted))
    assert any("as EXIF asks" in warning for warning in source.warnings) == (orientation != 1)


def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path: Path) -> None:
    stored = photograph(tmp_path / "a.png", orientation=11)

    np.testing.assert_array_equal(look(tmp_path / "a.png")[1][0], samples_first(stored))


def test_a_photograph_in_tiff_is_turned_where_somebody_says_that_it_is_one(tmp_path: Path) -> None:
    stored = photograph(tmp_path / "a.tif", orientation=8, make="Phase One")

    source, (pixels,) = look(tmp_path / "a.tif", "RGB")

    assert source.sensor == "RGB"
    assert pixels.shape == (3, 64, 48)
    np.testing.assert_array_equal(pixels, samples_first(stored))  # of a TIFF, Pillow turns it itself
    assert source.metadata["exif"]["Make"] == "Phase One"
    assert look(tmp_path / "a.tif")[0].sensor == "TIFF RGB"


# -- where it was taken ---------------------------------------------------------------------------


def test_place_and_camera_are_kept(data: Path, tmp_path: Path) -> None:
    convert(data / "drone/overlap_berlin_01.jpg", tmp_path / "a.ome.zarr")

    kept = metadata_of(tmp_path / "a.ome.zarr")["scientistcloud"]["source_metadata"]
    assert kept["gps"]["latitude"] == pytest.approx(52 + 31 / 60 + 8.1 / 3600)
    assert kept["gps"]["longitude"] == pytest.approx(13 + 24 / 60 + 1.06 / 3600)
    assert kept["gps"]["altitude"] == 27
    assert kept["exif"]["LensModel"] == "iPhone 4S back camera 4.28mm f/2.4"
    attributes = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")["0/image"].attrs
    assert attributes["gps_latitude"] == kept["gps"]["latitude"]


def test_south_west_and_below_the_sea_are_negative(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg", place=True)

    gps = look(tmp_path / "a.jpg")[0].metadata["gps"]

    assert (gps["latitude"], gps["longitude"], gps["altitude"]) == (-12.51, -76.75, -2.5)


def test_what_a_drone_says_of_its_flight_is_kept(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg", xmp=DJI)

    assert look(tmp_path / "a.jpg")[0].metadata["xmp"] == {
        "drone-dji:RelativeAltitude": "+40.20",
        "drone-dji:GimbalYawDegree": "-12.30",
        "drone-dji:FlightYawDegree": "+7.5",
    }


def test_xmp_that_would_blow_up_is_not_read(tmp_path: Path) -> None:
    entities = '<!DOCTYPE a [<!ENTITY b "bbbb">]>' + DJI.replace("+40.20", "&b;")
    photograph(tmp_path / "a.jpg", xmp=entities)

    source, _ = look(tmp_path / "a.jpg")

    assert "xmp" not in source.metadata


# -- a series -------------------------------------------------------------------------------------


def test_photographs_of_equal_size_are_a_series_and_no_steps_in_time(data: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        shutil.copy(data / f"drone/overlap_berlin_0{number}.jpg", tmp_path)
    (tmp_path / "out").mkdir()
    store = tmp_path / "out/a.ome.zarr"

    form = convert(tmp_path, store, preview=tmp_path / "out/a.webp")

    assert [image["group"] for image in form["images"]] == ["0", "1", "2"]
    assert [[axis["name"] for axis in image["axes"]] for image in form["images"]] == [["c", "y", "x"]] * 3
    assert not any(axis["kind"] == AxisKind.TIME for image in form["images"] for axis in image["axes"])
    assert metadata_of(store)["ome"]["bioformats2raw.layout"] == 3
    root: Any = zarr.open_group(store, mode="r")
    for number in (1, 2, 3):
        name = f"overlap_berlin_0{number}"
        pixels = root[f"{number - 1}/0/{name}"][...]
        np.testing.assert_array_equal(pixels, samples_first(read(tmp_path / f"{name}.jpg")))
        assert root[f"{number - 1}/0/{name}"].attrs["gps_altitude"] in (27, 30, 39)
    assert_valid(store)


def test_photographs_of_unequal_size_are_a_series_in_the_order_of_their_names(tmp_path: Path) -> None:
    made = [
        photograph(tmp_path / f"DJI_{n}.jpg", scene(40 + n, 60, seed=n), orientation=turned)
        for n, turned in ((2, 1), (10, 1), (9, 6))
    ]

    source, pixels = look(tmp_path)

    assert [image.source_name for image in source.images] == ["DJI_2.jpg", "DJI_9.jpg", "DJI_10.jpg"]
    for one, other in zip(pixels, (made[0], np.rot90(made[2], -1), made[1]), strict=True):
        np.testing.assert_array_equal(one, samples_first(other))
    assert source.reason == "DJI_2.jpg is the first of 3 photographs, in the order of their names"
    assert "DJI_9.jpg: turned by 90° clockwise, as EXIF asks" in source.warnings


def test_files_that_are_no_photographs_are_named(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg")
    (tmp_path / "flight.csv").write_text("time,height\n0,40\n")

    source, _ = look(tmp_path)

    assert source.warnings == ("left out, because they are no RGB: flight.csv",)


# -- samples and bits -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("RGBA", ["red", "green", "blue", "alpha"]), ("LA", ["grey", "alpha"]), ("RGB", ["red", "green", "blue"])],
)
def test_alpha_is_a_channel(kind: str, labels: list[str], tmp_path: Path) -> None:
    made = np.random.default_rng(1).integers(0, 256, (20, 30, len(labels)), np.uint8)
    Picture.fromarray(made, kind).save(tmp_path / "a.png")

    source, (pixels,) = look(tmp_path / "a.png")

    assert [channel.label for channel in source.images[0].channels] == labels
    np.testing.assert_array_equal(pixels, samples_first(made))


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    grey = np.random.default_rng(1).integers(0, 65536, (20, 30), np.uint16)
    Picture.fromarray(grey).save(tmp_path / "grey.png")
    colours = np.random.default_rng(2).integers(0, 65536, (20, 30, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)  # Pillow would cut them to eight
    (tmp_path / "rgb.png").write_bytes(png(30, 20, bits=16, colour=2, rows=rows))

    (one,), (other,) = look(tmp_path / "grey.png")[1], look(tmp_path / "rgb.png")[1]

    np.testing.assert_array_equal(one, grey)
    np.testing.assert_array_equal(other, samples_first(colours))
    assert one.dtype == other.dtype == np.uint16


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    indexed = Picture.fromarray(scene()).quantize(200)
    indexed.save(tmp_path / "a.png")

    source, (pixels,) = look(tmp_path / "a.png")

    np.testing.assert_array_equal(pixels, samples_first(np.array(indexed.convert("RGB"))))
    assert source.warnings == ("a.png: the colours of its palette are written, not the numbers of the colours",)


def test_a_palette_of_greys_becomes_grey(data: Path) -> None:
    source, (pixels,) = look(data / "idx/gray.png")

    with Picture.open(data / "idx/gray.png") as picture:
        np.testing.assert_array_equal(pixels, np.array(picture.convert("L")))
    assert source.images[0].channels == ()


def test_a_colour_that_is_said_to_be_transparent_becomes_alpha(tmp_path: Path) -> None:
    rows = b"\0" + bytes([1, 2, 3, 9, 9, 9])
    clear = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    (tmp_path / "a.png").write_bytes(png(2, 1, bits=8, colour=2, rows=rows, between=clear))

    np.testing.assert_array_equal(look(tmp_path / "a.png")[1][0][:, 0], [[1, 9], [2, 9], [3, 9], [0, 255]])


def test_a_bit_a_pixel_becomes_black_and_white(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (9, 13), np.uint8)
    Picture.fromarray(bits * 255).convert("1").save(tmp_path / "a.png")

    source, (pixels,) = look(tmp_path / "a.png")

    np.testing.assert_array_equal(pixels, bits * 255)
    assert source.warnings == ("a.png: its 1 bits a pixel are spread over 0 to 255",)


def test_inks_of_a_print_are_refused(tmp_path: Path) -> None:
    Picture.fromarray(scene()).convert("CMYK").save(tmp_path / "a.jpg")

    with pytest.raises(UnsupportedSource, match=r"a.jpg is in CMYK.*save it as RGB"):
        look(tmp_path / "a.jpg")


def test_another_colour_profile_is_said(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    usual = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    Picture.fromarray(scene()).save(tmp_path / "lab.png", icc_profile=lab.tobytes())
    Picture.fromarray(scene()).save(tmp_path / "usual.jpg", icc_profile=usual.tobytes())

    assert "its colours are of the profile" in look(tmp_path / "lab.png")[0].warnings[0]
    assert look(tmp_path / "usual.jpg")[0].warnings == ()
    assert "sRGB" in look(tmp_path / "usual.jpg")[0].metadata["icc_profile"]


# -- as it is shown -------------------------------------------------------------------------------


def test_the_preview_has_the_colours_of_the_photograph(data: Path, tmp_path: Path) -> None:
    convert(data / "drone/orientation/Landscape_6.jpg", tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    with Picture.open(tmp_path / "a.webp") as made, Picture.open(data / "drone/orientation/Landscape_6.jpg") as one:
        assert made.size == (900, 600)
        wanted = ImageOps.exif_transpose(one).resize(made.size, Picture.Resampling.BOX)
        assert np.abs(np.array(made).astype(int) - np.array(wanted)).mean() < 4
        assert not made.getexif()
    assert compare(tmp_path / "a.ome.zarr", data / "drone/orientation/Landscape_6.jpg") == 3 * 1200 * 1800


def a_profile(*primaries: tuple[float, float, float]) -> bytes:
    """An ICC profile of three primaries (XYZ under D50) and a gamma of 2.2, by ICC.1:2001-04."""

    def fixed(*numbers: float) -> bytes:
        return struct.pack(f">{len(numbers)}i", *(round(65536 * number) for number in numbers))

    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249), b"cprt": b"text\0\0\0\0CC0\0"}
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 6) + b"turned".ljust(84, b"\0")
    for name, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True):
        tags[name] = b"XYZ \0\0\0\0" + fixed(*primary)
        tags[name[:1] + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    head, data = b"", b""
    start = 132 + 12 * len(tags)
    for name, content in tags.items():
        content = content.ljust(-(-len(content) // 4) * 4, b"\0")
        head += name + struct.pack(">II", start + len(data), len(content))
        data += content
    size = struct.pack(">I", start + len(data))
    kind = struct.pack(">I", 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    return (
        size + bytes(4) + kind + fixed(0.9642, 1, 0.8249) + bytes(48) + struct.pack(">I", len(tags)) + head + data
    )


RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7142)  # of sRGB under D50


@pytest.mark.parametrize(
    ("name", "icc", "seen"),
    [
        pytest.param("a.png", a_profile(GREEN, RED, BLUE), (1, 0, 2), id="whole"),
        pytest.param("a.png", a_profile(GREEN, RED, BLUE)[:300], (0, 1, 2), id="damaged"),
        pytest.param("a.tif", a_profile(GREEN, RED, BLUE), (1, 0, 2), id="tiff"),
    ],
)
def test_the_preview_heeds_a_colour_profile_and_the_values_stay(
    name: str, icc: bytes, seen: tuple[int, ...], tmp_path: Path
) -> None:
    """By this profile, what is stored as red is green on a usual screen."""
    stored = np.zeros((60, 90, 3), np.uint8)
    stored[:, :30], stored[:, 30:60], stored[:, 60:] = (220, 40, 90), (30, 200, 60), (120, 121, 40)
    Picture.fromarray(stored).save(tmp_path / name, icc_profile=icc)

    form = convert(tmp_path / name, tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    assert any("the profile 'turned'" in warning for warning in form["warnings"]) == (len(icc) > 300)
    with Picture.open(tmp_path / "a.webp") as made:
        middles = np.array(made.convert("RGB")).astype(int)[30, [15, 45, 75]]
        assert "icc_profile" not in made.info
    assert np.abs(middles - stored[30, [15, 45, 75]].astype(int)[:, seen]).max() < 16
    np.testing.assert_array_equal(
        zarr.open_array(tmp_path / "a.ome.zarr/0/image", mode="r")[...], np.moveaxis(stored, -1, 0)
    )


# Linear light to XYZ under D65: Adobe RGB (1998), version 2005-05, 4.3.5.3; IEC 61966-2-1.
ADOBE = np.array([(0.57667, 0.18556, 0.18823), (0.29734, 0.62736, 0.07529), (0.02703, 0.07069, 0.99134)])
SRGB = np.array([(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)])


@pytest.mark.parametrize("how", ["R03", "colour space 2"])
def test_the_preview_heeds_adobe_rgb_that_exif_alone_tells_of(how: str, tmp_path: Path) -> None:
    stored = np.full((64, 64, 3), (110, 140, 90), np.uint8)
    said = Picture.Exif()
    said.get_ifd(0x8769)[0xA001] = 2 if how == "colour space 2" else 0xFFFF
    if how == "R03":
        said.get_ifd(0x8769)[0xA005] = {1: "R03"}
    Picture.fromarray(stored).save(tmp_path / "a.jpg", exif=said, quality=95)

    form = convert(tmp_path / "a.jpg", tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    light = np.linalg.solve(SRGB, ADOBE @ (stored[0, 0] / 255) ** (563 / 256))
    wanted = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    with Picture.open(tmp_path / "a.webp") as made:
        assert np.abs(np.array(made)[32, 32] - wanted).max() < 4
    assert np.abs(wanted - stored[0, 0]).max() > 12  # red, which is 90 in sRGB
    assert any("Adobe RGB (1998)" in warning for warning in form["warnings"])


def test_a_grey_photograph_is_shown_in_grey(tmp_path: Path) -> None:
    grey = scene().mean(axis=-1).astype(np.uint8)
    photograph(tmp_path / "a.png", grey)

    convert(tmp_path / "a.png", tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    with Picture.open(tmp_path / "a.webp") as made:
        assert np.abs(np.array(made.convert("RGB")).astype(int) - grey[..., None]).max() < 16
    (entry,) = metadata_of(tmp_path / "a.ome.zarr")["ome"]["multiscales"]
    assert entry["metadata"]["grey"] is True
    assert_valid(tmp_path / "a.ome.zarr")


def test_inspect_explains_a_photograph(data: Path) -> None:
    said = CliRunner().invoke(group, ["inspect", str(data / "drone/orientation/Landscape_8.jpg")]).output

    assert "Landscape_8.jpg: RGB, read with simplejpeg" in said
    assert "c 3 (channel) · y 1,200 · x 1,800" in said
    assert "red, green, blue (shown as colours of one picture)" in said
    assert "note    Landscape_8.jpg: turned by 90° counter-clockwise, as EXIF asks" in said


# -- the sensor that was named --------------------------------------------------------------------


def test_a_sensor_that_the_photograph_contradicts_is_refused(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png")

    with pytest.raises(UnsupportedSource, match=r"a.png was said to be TIFF, but it is RGB"):
        look(tmp_path / "a.png", "TIFF")


def test_measured_values_in_tiff_are_no_photograph(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.float32))

    with pytest.raises(UnsupportedSource, match=r"a.tif was said to be RGB, but it is TIFF"):
        look(tmp_path / "a.tif", "RGB")


def test_the_sensor_that_was_named_decides_which_files_of_a_folder_are_read(tmp_path: Path) -> None:
    for number in range(3):
        photograph(tmp_path / f"preview_{number}.png")
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 8, 8), np.uint16), metadata=None)

    source, _ = look(tmp_path, "TIFF")

    assert source.images[0].shape == (5, 8, 8)
    assert look(tmp_path)[0].sensor == "RGB"


# -- what lies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "padding", "said"),
    [
        (2**31 - 1, 0, "cannot hold"),  # deflate packs 1032 to 1 at most
        (60_000, 1_000_000, "as no photograph does"),
        (200_000, 200_000_000, "are read up to"),
    ],
)
def test_a_header_that_promises_more_than_a_photograph_is_refused_unread(
    side: int, padding: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = png(side, side, bits=8, colour=2, rows=b"\0" * 99, between=chunk(b"junk", b""))
    with (tmp_path / "a.png").open("wb") as file:
        file.write(made[: -len(chunk(b"IEND", b""))])
        if padding:
            file.write(struct.pack(">I4s", padding, b"junk"))
            file.seek(padding + 4, 1)  # sparse
        file.write(chunk(b"IEND", b""))
    monkeypatch.setattr(gallery.Gallery, "_room", lambda *_: pytest.fail("it was allocated"))

    with pytest.raises((UnreadableSource, UnsupportedSource), match=f"a.png .*{said}"):
        look(tmp_path / "a.png")


def test_a_jpeg_that_promises_more_rows_than_it_has_is_refused(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg")
    lying = bytearray((tmp_path / "a.jpg").read_bytes())
    frame = lying.index(b"\xff\xc0")
    lying[frame + 5 : frame + 7] = struct.pack(">H", 100)  # Pillow fills the rest with grey
    (tmp_path / "a.jpg").write_bytes(lying)

    with pytest.raises(UnreadableSource, match=r"a.jpg is damaged: .*premature end"):
        look(tmp_path / "a.jpg")


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(tmp_path: Path) -> None:
    stored = photograph(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"\0" * 100 + (tmp_path / "a.jpg").read_bytes())  # a second picture, as phones write it

    np.testing.assert_array_equal(look(tmp_path / "a.jpg")[1][0], samples_first(stored))


def test_a_jpeg_of_twelve_bits_is_refused(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg")
    deep = bytearray((tmp_path / "a.jpg").read_bytes())
    deep[deep.index(b"\xff\xc0") + 4] = 12
    (tmp_path / "a.jpg").write_bytes(deep)

    with pytest.raises(UnsupportedSource, match=r"a.jpg is a JPEG of a kind .* 12 bits"):
        look(tmp_path / "a.jpg")


def test_a_progressive_jpeg_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    Picture.fromarray(scene()).save(tmp_path / "a.jpg", progressive=True)
    wide = bytearray((tmp_path / "a.jpg").read_bytes())
    frame = wide.index(b"\xff\xc2")
    wide[frame + 5 : frame + 9] = struct.pack(">HH", 20_000, 20_000)
    (tmp_path / "a.jpg").write_bytes(wide)

    with pytest.raises(UnsupportedSource, match=r"a.jpg is a progressive JPEG of 20000 x 20000 pixels"):
        look(tmp_path / "a.jpg")


def test_one_broken_photograph_of_a_series_is_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        photograph(tmp_path / name)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:-300])

    with pytest.raises(UnreadableSource, match=r"b.jpg is damaged: the JPEG breaks off"):
        look(tmp_path)


# -- large ones -----------------------------------------------------------------------------------


def test_a_large_photograph_is_decoded_onto_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "SCRATCH_FROM_BYTES", 1000)
    stored = photograph(tmp_path / "a.jpg", orientation=6)
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    with opened(tmp_path / "a.jpg", scratch=scratch) as reader:
        pixels = reader.read(0, whole(reader.describe().images[0]))
        left = list(scratch.iterdir())

    np.testing.assert_array_equal(pixels, samples_first(np.rot90(stored, -1)))
    assert left == []  # it has no name, so nothing has to tidy it up


def test_a_disk_without_room_for_a_large_photograph_is_no_fault_of_the_photograph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "SCRATCH_FROM_BYTES", 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    photograph(tmp_path / "a.jpg")

    with pytest.raises(NoSpace, match="has no room"):
        look(tmp_path / "a.jpg")


def test_of_a_long_series_few_are_kept_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "KEPT_BYTES", 3 * scene().nbytes)
    made = [photograph(tmp_path / f"{number}.jpg", scene(seed=number)) for number in range(8)]
    kept = gallery.Gallery([tmp_path / f"{number}.jpg" for number in range(8)], scratch=None)

    for number in (*range(8), 0, 7):
        np.testing.assert_array_equal(kept.pixels(number), made[number])

    assert len(kept._decoded) == 3


def test_pictures_without_exif_have_no_metadata_of_it(tmp_path: Path) -> None:
    Picture.fromarray(scene()).save(tmp_path / "a.png")

    assert look(tmp_path / "a.png")[0].metadata == {}
    assert len(exif()) == 0
