"""No block of a source is decoded twice, however it lies across what is read, whether or not memory holds it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event, Lock, current_thread
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import tifffile
import zarr
from photograph_files import photograph, scene

from scientistcloud.converters import kept
from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.formats.photographs import gallery
from scientistcloud.converters.formats.tiff.planes import PageReader
from scientistcloud.converters.hdf5_chunks import Chunked
from scientistcloud.converters.kept import Kept, covered
from scientistcloud.omezarr import budget
from scientistcloud.omezarr.check import check
from scientistcloud.omezarr.plan import WriteOptions
from scientistcloud.tasks.conversion import convert

CUBE = np.random.default_rng(0).integers(0, 60000, (130, 131, 140), np.uint16)
PAGES = CUBE[:130, :70].reshape(65, 70, 280).repeat(2, axis=2)  # wider than what is looked at beforehand


def hdf5(chunks: tuple[int, ...]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with h5py.File(folder / "source.h5", "w") as file:
            file.create_dataset("cube", data=CUBE, chunks=chunks, compression="gzip", compression_opts=1)
        return folder / "source.h5"

    return make


def netcdf(folder: Path) -> Path:
    with netCDF4.Dataset(folder / "source.nc", "w") as file:
        for name, length in zip("zyx", CUBE.shape, strict=True):
            file.createDimension(name, length)
        values = file.createVariable(
            "cube", "u2", tuple("zyx"), zlib=True, shuffle=True, chunksizes=(100, 100, 100)
        )
        values[:] = CUBE
    return folder / "source.nc"


def tiff(folder: Path) -> Path:
    tifffile.imwrite(folder / "source.tif", PAGES, compression="zlib", rowsperstrip=70, photometric="minisblack")
    return folder / "source.tif"


@pytest.mark.parametrize(
    ("make", "blocks", "memory_bytes"),
    [
        pytest.param(hdf5((100, 100, 100)), 8, kept.KEPT_BYTES, id="cubes, in memory"),
        pytest.param(hdf5((100, 100, 100)), 8, 0, id="cubes"),
        pytest.param(hdf5((60, 131, 140)), 3, 0, id="slabs"),
        pytest.param(hdf5((130, 20, 30)), 35, 1 << 20, id="columns"),
        pytest.param(hdf5((130, 131, 140)), 1, 0, id="all"),
        pytest.param(netcdf, 8, 0, id="netcdf"),
        pytest.param(tiff, 65, 0, id="pages"),
    ],
)
def test_a_conversion_decodes_each_block_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Path],
    blocks: int,
    memory_bytes: int,
) -> None:
    decoded: Counter[Any] = Counter()
    of_hdf5, of_tiff = Chunked.decode, PageReader._decode

    def chunk(self: Any, row: int, *more: Any) -> Any:
        decoded[row] += 1
        return of_hdf5(self, row, *more)

    def strip(self: Any, page: Any, segment: int) -> Any:
        decoded[page.number, segment] += 1
        return of_tiff(self, page, segment)

    monkeypatch.setattr(Chunked, "decode", chunk)
    monkeypatch.setattr(PageReader, "_decode", strip)
    monkeypatch.setattr(kept, "KEPT_BYTES", memory_bytes)
    monkeypatch.setattr(budget, "SLAB_BYTES", 1 << 19)  # of one shard
    monkeypatch.setattr(budget, "PIECE_BYTES", 1 << 17)

    convert(make(tmp_path), tmp_path / "a.ome.zarr", writing=WriteOptions(shard=(64, 64, 64)))

    stored = next(array for _, array in zarr.open_group(tmp_path / "a.ome.zarr/0", mode="r").arrays())
    np.testing.assert_array_equal(stored[...], PAGES if make is tiff else CUBE)
    assert set(decoded.values()) == {1}
    assert len(decoded) == blocks


@pytest.mark.parametrize(("sensor", "images"), [("RGB", 1), ("MAPIR", 2)])
def test_of_a_series_each_photograph_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sensor: str, images: int
) -> None:
    decoded: Counter[int] = Counter()
    original = gallery.Gallery._decode

    def decode(self: Any, number: int) -> Any:
        decoded[number] += 1
        return original(self, number)

    monkeypatch.setattr(gallery.Gallery, "_decode", decode)
    monkeypatch.setattr(gallery, "KEPT_BYTES", 1)  # the newest alone
    (tmp_path / "series").mkdir()
    for number in range(4):
        photograph(tmp_path / f"series/{number}.jpg", scene(seed=number))

    made = convert(tmp_path / "series", tmp_path / "a.ome.zarr", sensor=sensor, options=ReadOptions(bands="RGN"))

    assert decoded == dict.fromkeys(range(4), 1)
    assert len(made["images"]) == 4 * images
    assert [each["variable"] for each in made["images"]][:4] == ["0", "1", "2", "3"]
    check(tmp_path / "a.ome.zarr", values=True)


def test_without_room_on_the_disk_blocks_are_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_ROOM", 1 << 60)
    blocks = Kept(tmp_path, memory_bytes=0)
    decoded = []

    def half(number: int, rows: slice) -> Any:
        def decode() -> Any:
            decoded.append(number)
            return np.full((4, 4), number, np.uint8)

        key = {"shape": (4, 4), "dtype": np.dtype(np.uint8), "voxels": 16}
        return blocks.part(number, (rows, slice(0, 4)), decode=decode, **key)  # type: ignore[arg-type]

    halves = [half(number, rows) for rows in (slice(0, 2), slice(2, 4)) for number in (1, 2)]
    blocks.close()

    assert [each.tolist() for each in halves] == [[[number] * 4] * 2 for number in (1, 2, 1, 2)]
    assert decoded == [1, 2, 1, 2]


def test_who_waits_for_a_block_does_not_hold_up_who_decodes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = Kept(tmp_path, memory_bytes=0)
    begun = Event()

    class Late(AbstractContextManager[None]):
        """The turn of large blocks, to which who decodes comes after who waits for it."""

        turn = Lock()

        def __enter__(self) -> None:
            if current_thread().name.endswith("_0"):
                begun.set()
                time.sleep(0.2)
            assert self.turn.acquire(timeout=10)

        def __exit__(self, *_: object) -> None:
            self.turn.release()

    monkeypatch.setattr(blocks, "_large", Late())
    half: dict[str, Any] = {
        "shape": (4,),
        "dtype": np.dtype(np.uint8),
        "voxels": 4,
        "decode": lambda: np.arange(4, dtype=np.uint8),
    }
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(blocks.part, 1, (slice(0, 2),), **half)
        assert begun.wait(10)
        second = threads.submit(blocks.part, 1, (slice(2, 4),), **half)
        assert [first.result(30).tolist(), second.result(30).tolist()] == [[0, 1], [2, 3]]
    blocks.close()


def test_places_that_several_boxes_cover_count_once() -> None:
    boxes = [
        (slice(0, 4), slice(0, 4)),
        (slice(2, 6), slice(2, 6)),
        (slice(2, 4), slice(2, 4)),
        (slice(8, 9), slice(0, 1)),
    ]

    assert covered(boxes) == 16 + 16 - 4 + 1
