"""Files that lie about themselves, or lead elsewhere: refused before anything is allocated or opened."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import raw_tiff
import tifffile
from raw_tiff import ASCII, LONG, SHORT, Tag

from scientistcloud.converters.registry import open_source
from scientistcloud.errors import UnreadableSource, UnsafeSource, UnsupportedSource
from scientistcloud.testing.converters import whole

SECRET = b"root:x:0:0:the server's own file:/root:/bin/sh\n" * 20
MUCH = 50 << 20


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the server, outside of any data set."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


def read(path: Path) -> None:
    """All of the default image."""
    reader = open_source(path)
    try:
        reader.read(0, whole(reader.describe().images[0]))
    finally:
        reader.close()


def refused(path: Path, error: type[Exception] = UnreadableSource) -> str:
    """The message with which reading all of `path` is refused, cheaply."""
    tracemalloc.start()
    try:
        with pytest.raises(error) as raised:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < MUCH
    finally:
        tracemalloc.stop()
    assert path.name in str(raised.value)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# -- netCDF-4 that leads elsewhere ----------------------------------------------------------------


def netcdf4(path: Path) -> Path:
    file: Any
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("y", 4)
        file.createDimension("x", 5)
        file.createVariable("v", "u1", ("y", "x"))[:] = 1
    return path


def stored_outside(path: Path, secret: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["v"]
        shape, kind = h5py.h5s.create_simple((4, 5)), h5py.h5t.STD_U8LE
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_external(str(secret).encode(), 0, 20)
        h5py.h5d.create(file.id, b"v", kind, shape, plan)


def linked_outside(path: Path, secret: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["group/inner"] = h5py.ExternalLink(str(secret), "/v")


def seen_through_a_view(path: Path, secret: Path) -> None:
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((4, 5), "u1")
        layout[:] = h5py.VirtualSource(str(secret), "v", (4, 5))
        file.create_virtual_dataset("w", layout)


@pytest.mark.parametrize("attack", [stored_outside, linked_outside, seen_through_a_view])
def test_a_netcdf_4_that_leads_to_a_file_of_the_server_is_refused(
    tmp_path: Path, secret: Path, attack: Callable[[Path, Path], None]
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    path = netcdf4(folder / "hostile.nc")
    attack(path, secret)

    message = refused(path, UnsafeSource)

    assert "hostile.nc names another file" in message
    assert "secret" in message


def test_the_attack_would_work_on_the_library_itself(tmp_path: Path, secret: Path) -> None:
    path = netcdf4(tmp_path / "hostile.nc")
    stored_outside(path, secret)

    with h5py.File(path) as file:
        assert bytes(file["v"][:].ravel()) == SECRET[:20]


def test_links_within_the_file_are_no_harm(tmp_path: Path) -> None:
    path = netcdf4(tmp_path / "linked.nc")
    with h5py.File(path, "r+") as file:
        file["alias"] = h5py.SoftLink("/v")
        file["again"] = file["v"]
    reader = open_source(path)

    assert "v" in [image.name for image in reader.describe().images]
    reader.close()


def test_old_netcdf_4_without_the_librarys_mark_is_netcdf(tmp_path: Path) -> None:
    path = netcdf4(tmp_path / "old.nc")
    with h5py.File(path, "r+") as file:
        file.attrs.pop("_NCProperties", None)
        for name in file:
            for mark in ("_Netcdf4Dimid", "_Netcdf4Coordinates"):
                file[name].attrs.pop(mark, None)
    reader = open_source(path)

    assert reader.describe().images[0].shape == (4, 5)
    reader.close()


# -- headers that claim too much ------------------------------------------------------------------


def test_a_tiff_of_10_to_the_15_pixels_in_a_kilobyte_is_refused(tmp_path: Path) -> None:
    side = 31_622_777
    raw = raw_tiff.write(tmp_path / "raw.tif", raw_tiff.picture(side, side, strip=8, size=100), data=bytes(1000))
    packed_tags = raw_tiff.picture(side, side, strip=8, size=100, compression=8)
    packed = raw_tiff.write(tmp_path / "packed.tif", packed_tags, data=bytes(1000))

    assert "claims 1e+15 bytes" in refused(raw)
    assert "claims 1e+15 bytes" in refused(packed)


def test_a_gigabyte_of_raw_pixels_in_a_kilobyte_is_refused(tmp_path: Path) -> None:
    path = raw_tiff.write(tmp_path / "a.tif", raw_tiff.picture(30_000, 30_000, strip=8, size=100), data=bytes(1000))

    assert "a.tif ends at byte" in refused(path)


def test_a_strip_that_does_not_decode_is_named(tmp_path: Path) -> None:
    tags = raw_tiff.picture(30, 30, strip=8, size=100, compression=8)
    path = raw_tiff.write(tmp_path / "a.tif", tags, data=bytes(1000))

    assert "a.tif is damaged: strip 1 of page 1 does not decode" in refused(path)


@pytest.mark.parametrize("count", [0xFFFFFFFF, 10_000_000])
def test_a_table_longer_than_the_file_is_refused(tmp_path: Path, count: int) -> None:
    tags = [*raw_tiff.picture(64, 64, rows=1), Tag(273, LONG, count, b"\0" * 64), Tag(279, LONG, count, b"\0" * 64)]
    path = raw_tiff.write(tmp_path / "a.tif", sorted(tags, key=lambda tag: tag.code))

    assert "tag 273 of page 1 lies behind the file's end" in refused(path)


def test_a_table_shorter_than_its_strips_is_refused(tmp_path: Path) -> None:
    tags = [*raw_tiff.picture(64, 64, rows=1, strip=8, size=64, compression=8)]
    path = raw_tiff.write(tmp_path / "a.tif", tags, data=bytes(100))

    refused(path)


def test_pages_that_follow_themselves_are_refused(tmp_path: Path) -> None:
    path = raw_tiff.write(tmp_path / "a.tif", raw_tiff.picture(8, 8, strip=8), data=bytes(64), following=72)

    assert "its page 2 is an earlier one" in refused(path)


def test_an_imagej_header_that_counts_more_images_than_there_are_is_refused(tmp_path: Path) -> None:
    text = b"ImageJ=1.54\nimages=1000000000\nslices=1000000000\nhyperstack=true\n\0"
    tags = [*raw_tiff.picture(100, 100, strip=8), Tag(270, ASCII, len(text), text)]
    path = raw_tiff.write(tmp_path / "a.tif", sorted(tags, key=lambda tag: tag.code), data=bytes(10_000))
    reader = open_source(path)
    images = reader.describe().images
    reader.close()

    assert images[0].shape == (100, 100)  # one page is there, and no more is promised


def test_a_picture_without_pixels_is_refused(tmp_path: Path) -> None:
    refused(raw_tiff.write(tmp_path / "a.tif", raw_tiff.picture(64, 64)))


def test_samples_of_a_strange_number_of_bits_are_refused(tmp_path: Path) -> None:
    tags = [tag for tag in raw_tiff.picture(8, 8, strip=8) if tag.code != 258] + [Tag(258, SHORT, 1, 77)]
    path = raw_tiff.write(tmp_path / "a.tif", sorted(tags, key=lambda tag: tag.code), data=bytes(1000))

    assert "77 bits" in refused(path, UnsupportedSource)


def classic(path: Path, *, rows: int, columns: int, records: int = 0) -> Path:
    """A netCDF-3 header that claims a byte variable `v` of `rows` × `columns`, with 100 bytes behind it."""

    def named(text: bytes) -> bytes:
        return struct.pack(">I", len(text)) + text.ljust(-(-len(text) // 4) * 4, b"\0")

    dims = named(b"y") + struct.pack(">I", rows) + named(b"x") + struct.pack(">I", columns)
    variable = named(b"v") + struct.pack(">III", 2, 0, 1) + struct.pack(">II", 0, 0) + struct.pack(">II", 1, 100)
    body = b"CDF\x01" + struct.pack(">I", records) + struct.pack(">II", 10, 2) + dims + struct.pack(">II", 0, 0)
    body += struct.pack(">II", 11, 1) + variable
    body += struct.pack(">I", len(body) + 4)
    path.write_bytes(body + bytes(100))
    return path


def test_a_netcdf_3_of_10_to_the_15_values_in_a_kilobyte_is_refused(tmp_path: Path) -> None:
    path = classic(tmp_path / "a.nc", rows=31_622_777, columns=31_622_777)

    assert "v (31622777, 31622777) should end at byte" in refused(path)


def test_a_netcdf_3_of_four_thousand_million_records_is_refused(tmp_path: Path) -> None:
    refused(classic(tmp_path / "a.nc", rows=0, columns=4, records=0xFFFFFFF0))


def test_a_netcdf_3_header_as_it_should_be_is_read(tmp_path: Path) -> None:
    reader = open_source(classic(tmp_path / "a.nc", rows=10, columns=10))

    assert reader.read(0, (slice(0, 10), slice(0, 10))).sum() == 0
    reader.close()


def test_a_netcdf_4_of_10_to_the_15_values_in_a_kilobyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    file: Any
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("y", 31_622_777)
        file.createDimension("x", 31_622_777)
        file.createVariable("v", "u1", ("y", "x"), chunksizes=(64, 64), zlib=True)

    assert "claims 1e+15 bytes" in refused(path)


def test_groups_as_deep_as_the_sea_are_refused(tmp_path: Path) -> None:
    path = netcdf4(tmp_path / "a.nc")
    with h5py.File(path, "r+") as file:
        group = file
        for _ in range(200):
            group = group.create_group("g")

    assert "deep in each other" in refused(path, UnsupportedSource)


# -- files that end too early ---------------------------------------------------------------------


def test_a_stack_that_ends_too_early_says_after_how_many_pages(tmp_path: Path) -> None:
    path = tmp_path / "scan_07.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in range(12):
            writer.write(np.full((50, 60), page, np.uint8), metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tiff:
        ends = tiff.pages[3].dataoffsets[0] + 100
    path.write_bytes(path.read_bytes()[:ends])

    assert refused(path) == "scan_07.tif ends after 3 pages; upload it again"


def test_a_stack_whose_pages_are_counted_says_how_many_there_should_be(tmp_path: Path) -> None:
    path = tmp_path / "scan_07.tif"
    tifffile.imwrite(path, np.zeros((12, 50, 60), np.uint8))
    content = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[0]

    path.write_bytes(content[: start + 3 * 3000 + 10])
    in_one_piece = refused(path)
    tifffile.imwrite(path, np.zeros((12, 50, 60), np.uint8), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        third = tiff.pages[3].offset
    path.write_bytes(path.read_bytes()[:third])
    in_pages = refused(path)

    assert in_one_piece == in_pages == "scan_07.tif ends after 3 of 12 pages; upload it again"


def test_a_netcdf_3_that_ends_too_early_never_reads_as_zeros(tmp_path: Path, data: Path) -> None:
    content = (data / "netcdf/eraint_uvz.nc").read_bytes()
    path = tmp_path / "cut.nc"
    path.write_bytes(content[: len(content) - 1000])

    assert f"cut.nc ends at byte {len(content) - 1000}" in refused(path)
    with netCDF4.Dataset(path) as file:  # what the library itself makes of it
        file.set_auto_maskandscale(False)
        assert file["v"][-1, -1, -1, -10:].tolist() != []


def test_a_netcdf_4_that_ends_too_early_is_refused(tmp_path: Path, data: Path) -> None:
    content = (data / "netcdf/tempo_no2_groups.nc4").read_bytes()
    path = tmp_path / "cut.nc4"
    path.write_bytes(content[: len(content) // 2])

    assert "cut.nc4 is damaged or cut off" in refused(path)
