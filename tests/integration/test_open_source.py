"""`open_source`: which converter reads what, and what people are told when none does."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from openvisus_files import needed
from scientistcloud import plugins
from scientistcloud.cli import group, main
from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.formats.tiff import TiffConverter
from scientistcloud.converters.registry import open_source, sensors
from scientistcloud.errors import (
    BrokenPlugin,
    InvalidParameters,
    NotFound,
    UnreadableSource,
    UnsupportedSource,
)
from scientistcloud.omezarr.image import Reader, Source


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.arange(5 * 6 * 8, dtype=np.uint16).reshape(5, 6, 8))
    return path


def describe(path: Path, **options: object) -> Source:
    reader: Reader = open_source(path, **options)  # type: ignore[arg-type]  # as the caller says
    try:
        return reader.describe()
    finally:
        reader.close()


# -- content decides ------------------------------------------------------------------------------


def test_content_decides_before_the_name_does(stack: Path, data: Path, tmp_path: Path) -> None:
    stack.rename(tmp_path / "really.nc")
    shutil.copy(data / "netcdf/eraint_uvz.nc", tmp_path / "really.tif")

    assert describe(tmp_path / "really.nc").sensor == "TIFF"
    assert describe(tmp_path / "really.tif").sensor == "NETCDF"


def test_the_sensors_known_here_are_listed_with_their_converters() -> None:
    known = [(sensor.name, sensor.converter) for sensor in sensors()]

    assert known == sorted(known)
    assert set(known) >= {
        ("MAPIR", "photographs"),
        ("NETCDF", "netcdf"),
        ("RGB", "photographs"),
        ("TIFF", "tiff"),
        ("TIFF RGB", "tiff"),
    }


@pytest.mark.parametrize("sensor", ["auto", "OTHER", "TIFF"])
def test_a_sensor_that_the_content_agrees_with_is_accepted(stack: Path, sensor: str) -> None:
    assert describe(stack, sensor=sensor).sensor == "TIFF"


def test_a_colour_picture_is_a_tiff_too(data: Path) -> None:
    assert describe(data / "tiff/landsat_rgb.tif", sensor="TIFF").sensor == "TIFF RGB"


@pytest.mark.parametrize("sensor", ["NETCDF", "TIFF RGB"])
def test_a_sensor_that_the_content_contradicts_is_refused_naming_both(stack: Path, sensor: str) -> None:
    with pytest.raises(UnsupportedSource, match=f"stack.tif was said to be {sensor}, but it is TIFF"):
        open_source(stack, sensor=sensor)


def test_a_sensor_that_does_not_exist_is_the_callers_mistake(stack: Path) -> None:
    with pytest.raises(InvalidParameters, match=r"no sensor 'MRI' here; take one of auto, .*NETCDF, .*TIFF"):
        open_source(stack, sensor="MRI")


CONTENT = {
    "TIFF": "tiff/microscopy_3d.tif",
    "TIFF RGB": "tiff/landsat_rgb.tif",
    "NETCDF": "netcdf/eraint_uvz.nc",
    "HDF5": "hdf5/stxm_stack.hdf5",
    "IDX": "idx3d/tomo.idx",
    "RGB": "drone/overlap_berlin_02.jpg",
}


@pytest.mark.parametrize("found", CONTENT)
def test_whatever_a_file_is_any_other_name_for_it_is_refused_naming_both(found: str, data: Path) -> None:
    if found == "IDX":
        needed()
    path = data / CONTENT[found]
    agrees = {("TIFF", "TIFF RGB"), ("RGB", "TIFF RGB"), ("MAPIR", "TIFF RGB"), ("MAPIR", "RGB")}
    assert describe(path).sensor == describe(path, sensor="OTHER").sensor == found

    for asked in {*CONTENT, "MAPIR"} - {found}:
        if (asked, found) not in agrees:
            with pytest.raises(UnsupportedSource, match=f"was said to be {asked}, but it is {found}"):
                open_source(path, sensor=asked)


# -- nobody reads it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"Dear colleague,\nattached are the data.\n", "it is a text file ('Dear colleague,' …)"),
        (b"<html><body>Log in first</body></html>", "it is a text file in XML or HTML"),
        (b'{"frames": 12}', "it is a text file in JSON, not data ('{\"frames\": 12}' …)"),
        (
            b"time;height;dose\n0;1;2\n",
            "it is a table in text ('time;height;dose' …); numbers in columns are a plot",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "it is a pointer of Git LFS, not the file; fetch the file with",
        ),
        (b"PK\x03\x04" + bytes(100), "it is a ZIP archive; unpack it"),
        (bytes(257) + b"ustar\x0000", "it is a tar archive; unpack it"),
        (b"%PDF-1.7\n%\xe2\xe3", "it is a PDF document; send the data that it was made from"),
        (b"\x0e\x03\x13\x01" + bytes(100), "it is an HDF4 file, which is no HDF5; convert it with h4toh5"),
        (bytes(128) + b"DICM" + bytes(100), "it is a DICOM file; a reader of DICOM would be needed"),
        (bytes(4) + b"r" * 340 + b"n+1\0", "it is a NIfTI volume; a reader of NIfTI would be needed"),
        (b"SIMPLE  =                    T", "it is a FITS file; a reader of FITS would be needed"),
        (b"\x01" * 208 + b"MAP DA\0\0", "it is an MRC or CCP4 volume; a reader of MRC would be needed"),
        (b"\0\0\0\x20ftypisom" + bytes(20), "it is a film (MP4); a reader of films would be needed"),
        (b"\0\0\0\x20ftypheic" + bytes(20), "it is a HEIC photograph; save it as JPEG"),
        (
            b"ZISRAWFILE" + bytes(20),
            "it is a Zeiss CZI file; a reader of CZI would be needed; export it as OME-TIFF",
        ),
        (b"\xda\xce\xbe\x0a" + bytes(20), "it is a Nikon ND2 file; a reader of ND2 would be needed"),
        (b"\x70\0\0\0\x12\0\0\0\x2a\x01", "it is a Leica LIF file; a reader of LIF would be needed"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "it is a WebP picture; save it as PNG or TIFF"),
        (b"GIF89a" + bytes(20), "it is a GIF picture; save it as PNG or TIFF"),
        (bytes(1000), "it holds nothing but zeros"),
        (b"\x07\x93\xfe\x01" * 30, "it is a TIFF by its name alone; it begins with the bytes 07 93 fe 01"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_nobody_reads_is_told_what_it_seems_to_be(tmp_path: Path, content: bytes, seen: str) -> None:
    path = tmp_path / "data.tif"
    path.write_bytes(content)

    with pytest.raises(UnsupportedSource) as refused:
        open_source(path)

    assert "nothing here reads data.tif: " + seen in str(refused.value)


@pytest.mark.parametrize("sensor", ["OTHER", "auto", "TIFF"])
def test_where_the_content_says_nothing_the_name_does(sensor: str, tmp_path: Path) -> None:
    (tmp_path / "2024_0812.RAW").write_bytes(b"\x07\x93\xfe\x01" * 30)

    with pytest.raises(UnsupportedSource, match=r"2024_0812.RAW: it is raw numbers .* type would be needed"):
        open_source(tmp_path / "2024_0812.RAW", sensor=sensor)


def test_of_a_folder_that_nobody_reads_the_largest_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("Look at the scan.")
    (tmp_path / "scan.czi").write_bytes(b"ZISRAWFILE" + bytes(5000))

    with pytest.raises(
        UnsupportedSource, match=r"nothing here reads scan.czi \(and 1 more\): it is a Zeiss CZI file"
    ):
        open_source(tmp_path, sensor="OTHER")


def test_an_empty_file_is_told_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()

    with pytest.raises(UnreadableSource, match=r"a\.tif: empty \(0 bytes\); upload it again"):
        open_source(tmp_path / "a.tif")


def test_an_empty_folder_is_told_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".hidden").write_text("x")

    with pytest.raises(UnreadableSource, match="the folder set holds no files"):
        open_source(tmp_path / "set")


def test_nothing_at_all_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file or folder .*gone\.tif"):
        open_source(tmp_path / "gone.tif")


def test_an_empty_file_beside_sound_ones_is_left_out_and_named(stack: Path) -> None:
    (stack.parent / "later.tif").touch()

    assert any("later.tif" in warning for warning in describe(stack.parent).warnings)


# -- plug-ins -------------------------------------------------------------------------------------


class Lsm(TiffConverter):
    """A plug-in that knows a dialect better than the built-in converter."""

    sensors = ("LSM",)
    opened = False

    def open(self, *arguments: object, **options: object) -> Reader:
        type(self).opened = True
        raise UnsupportedSource("not this one")


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points beside the installed ones."""
    from importlib.metadata import entry_points as real

    more: list[EntryPoint] = []

    def both(**select: str) -> list[EntryPoint]:
        name = select.get("name")
        return [*real(**select), *(point for point in more if name in (None, point.name))]

    monkeypatch.setattr(plugins, "entry_points", both)
    return more


def test_a_plug_in_is_asked_first_and_may_hand_on(stack: Path, plugged: list[EntryPoint]) -> None:
    plugged.append(EntryPoint("lsm", f"{__name__}:Lsm", plugins.CONVERTERS))
    Lsm.opened = False

    assert describe(stack).sensor == "TIFF"
    assert Lsm.opened
    assert "LSM" in [sensor.name for sensor in sensors()]


def test_a_plug_in_that_does_not_load_is_in_nobodys_way(stack: Path, plugged: list[EntryPoint]) -> None:
    plugged.append(EntryPoint("zarr", "no_such_module:Converter", plugins.CONVERTERS))

    assert describe(stack).sensor == "TIFF"


def test_a_plug_in_that_does_not_load_is_named_where_it_might_have_helped(
    tmp_path: Path, plugged: list[EntryPoint]
) -> None:
    plugged.append(EntryPoint("zarr", "no_such_module:Converter", plugins.CONVERTERS))
    (tmp_path / "a.dat").write_bytes(b"\x07\x93\xfe\x01" * 30)

    with pytest.raises(BrokenPlugin, match="the plug-in 'zarr'"):
        open_source(tmp_path / "a.dat")


# -- what a person overrules ----------------------------------------------------------------------


def test_axes_may_be_named_anew_and_come_in_the_order_that_ome_asks_for(stack: Path) -> None:
    reader = open_source(stack, options=ReadOptions(axes=("y", "t", "x")))
    image = reader.describe().images[0]

    got = reader.read(0, (slice(1, 4), slice(0, 5), slice(2, 8)))
    reader.close()

    assert [(axis.name, axis.kind.value, axis.length) for axis in image.axes] == [
        ("t", "time", 6),
        ("y", "space", 5),
        ("x", "space", 8),
    ]
    assert image.transposed == (1, 0, 2)
    values = tifffile.imread(stack).transpose(1, 0, 2)
    assert np.array_equal(got, values[1:4, 0:5, 2:8])


@pytest.mark.parametrize("axes", [("t", "t", "x"), ("c", "t", "x"), ("y", "y", "x"), ("t", "c", "x")])
def test_axes_that_make_no_image_are_the_callers_mistake(stack: Path, axes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidParameters, match="make no image"):
        open_source(stack, options=ReadOptions(axes=axes))


def test_spacing_may_be_given(stack: Path) -> None:
    image = describe(stack, options=ReadOptions(spacing={"z": 2.5, "x": 0.4})).images[0]

    assert [axis.spacing for axis in image.axes] == [2.5, None, 0.4]


@pytest.mark.parametrize(("name", "step"), [("q", 1.0), ("z", 0.0), ("z", -1.0), ("z", float("nan"))])
def test_spacing_that_makes_no_sense_is_the_callers_mistake(stack: Path, name: str, step: float) -> None:
    with pytest.raises(InvalidParameters):
        open_source(stack, options=ReadOptions(spacing={name: step}))


def test_an_array_that_is_not_there_is_the_callers_mistake_and_the_others_are_named(data: Path) -> None:
    with pytest.raises(InvalidParameters, match=r"no array 'w' .* there are z, u, v"):
        open_source(data / "netcdf/eraint_uvz.nc", options=ReadOptions(array="w"))


# -- the commands ---------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    result = CliRunner().invoke(group, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_inspect_says_what_would_be_read_and_why(data: Path) -> None:
    said = run("inspect", str(data / "netcdf/eraint_uvz.nc"))

    assert "eraint_uvz.nc: NETCDF" in said
    assert "z: /z is shown first of 3 images: it has 3 spatial axes" in said
    assert "month 2 (time)" in said
    assert "int16, 1.3 MiB, in m**2 s**-2, packed: × -1.72503 + 66825.5" in said
    assert "also    u from /u" in said


def test_inspect_as_json_has_all_of_it(data: Path) -> None:
    said = json.loads(run("inspect", "--json", str(data / "geotiff/neon_osbs_029.tif")))

    assert said["sensor"] == "TIFF RGB"
    assert said["images"][0]["shape"] == [3, 400, 400]
    assert said["images"][0]["transposed"] == [2, 0, 1]
    assert said["images"][0]["fill"] == [255]
    assert [axis["unit"] for axis in said["images"][0]["axes"]] == [None, "meter", "meter"]
    assert said["metadata"]["geokeys"]["ProjectedCSTypeGeoKey"] == 32617


def test_inspect_shows_what_would_be_overruled(data: Path) -> None:
    arguments = ["--array", "u", "--axes", "t,z,y,x", "--spacing", "z=2,y=0.5", "--json"]

    said = json.loads(run("inspect", str(data / "netcdf/eraint_uvz.nc"), *arguments))

    axes = said["images"][0]["axes"]
    assert said["images"][0]["name"] == "u"
    assert (axes[0]["name"], axes[0]["kind"]) == ("t", "time")
    assert [axis["spacing"] for axis in axes[1:3]] == [2.0, 0.5]


def test_inspect_fails_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.tif").touch()
    monkeypatch.setattr("sys.argv", ["scientistcloud", "inspect", str(tmp_path / "a.tif")])

    with pytest.raises(SystemExit) as left:
        main()

    assert left.value.code == 1
    assert capsys.readouterr().err == "scientistcloud: a.tif: empty (0 bytes); upload it again\n"


def test_sensors_are_listed() -> None:
    listed = [line.split("  ")[0] for line in run("sensors").splitlines()]

    assert listed == [each["name"] for each in json.loads(run("sensors", "--json"))]
    assert {"HDF5", "MAPIR", "NETCDF", "RGB", "TIFF", "TIFF RGB"} <= set(listed)
