"""Values of HDF5 however they are stored: read past the library where that is faster, and always the same."""

from __future__ import annotations

import ctypes
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scientistcloud.converters import hdf5_chunks as chunks
from scientistcloud.converters.formats.hdf5.files import OpenFile
from scientistcloud.converters.formats.hdf5.values import READER
from scientistcloud.converters.registry import open_source
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array, Image, Reader, Reduction, Region
from scientistcloud.testing.converters import equal, regions, whole

CUBE = (np.arange(20 * 33 * 41) % 251).reshape(20, 33, 41)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.h5"


def same_as_h5py(path: Path) -> None:
    """Every region of every image is what h5py reads."""
    reader = open_source(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            for number, image in enumerate(reader.describe().images):
                wanted = file[image.source_name][()]
                wanted = as_written(wanted.astype(wanted.dtype.newbyteorder("=")), image)
                assert equal(reader.read(number, whole(image)), wanted)
                for region in regions(image):
                    assert equal(reader.read(number, region), wanted[region]), (image.name, region)
    finally:
        reader.close()


def as_written(stored: Array, image: Image) -> Array:
    """`stored`, its axes without names of their own, in the order of the image; what is not there has length 1."""
    rank = stored.ndim
    names = [*(f"dim_{dim}" for dim in range(rank - 3)), *("z", "y", "x")[max(0, 3 - rank) :]]
    order = [names.index(axis.name) for axis in image.axes]
    rest = [dim for dim in range(rank) if dim not in order]
    assert all(stored.shape[dim] == 1 for dim in rest)
    return stored.transpose(*rest, *order).reshape([stored.shape[dim] for dim in order])


def way_of(path: Path, name: str) -> str:
    reader: Any = open_source(path)
    try:
        images = [image.name for image in reader.describe().images]
        reader.read(images.index(name), whole(reader.describe().images[images.index(name)]))
        dataset = reader._reader._described[images.index(name)].dataset
        return str(reader._reader._values._direct._ways[dataset.key])
    finally:
        reader.close()


# -- every way of storing ------------------------------------------------------------------------

LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "plain chunks": {"chunks": (3, 16, 16)},
    "gzip": {"chunks": (3, 16, 16), "compression": "gzip"},
    "shuffle": {"chunks": (3, 16, 16), "shuffle": True},
    "fletcher32": {"chunks": (3, 16, 16), "fletcher32": True},
    "all three": {"chunks": (3, 16, 16), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "one chunk": {"chunks": (20, 33, 41), "compression": "gzip"},
    "columns": {"chunks": (20, 1, 1), "compression": "gzip"},
    "chunks larger than the data": {"chunks": (32, 64, 64), "maxshape": (None, None, None), "compression": "gzip"},
    "scale-offset": {"chunks": (3, 16, 16), "scaleoffset": True},
    "lzf": {"chunks": (3, 16, 16), "compression": "lzf"},
}


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        (layout, dtype)
        for layout in LAYOUTS
        for dtype in ("u1", "<i2", ">u2", ">f4", "<f8", "c8", "?", "<f2")
        if "scaleoffset" not in LAYOUTS[layout] or np.dtype(dtype).kind in "iu"  # for these it loses nothing
    ],
)
def test_every_layout_of_every_type_is_read_as_h5py_reads_it(path: Path, layout: str, dtype: str) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", data=CUBE.astype(dtype), **LAYOUTS[layout])

    same_as_h5py(path)


def test_what_we_can_decode_does_not_wait_for_the_library(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, layout in LAYOUTS.items():
            file.create_dataset(name.replace(" ", "_"), data=CUBE.astype("u2"), **layout)

    assert way_of(path, "contiguous") == "plain"
    assert way_of(path, "all_three") == way_of(path, "plain_chunks") == way_of(path, "columns") == "chunks"
    assert way_of(path, "lzf") == way_of(path, "scale-offset") == "library"


@settings(max_examples=40)
@given(st.data())
def test_any_chunk_of_any_shape_gives_any_region(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shape = data.draw(
        st.lists(st.integers(1, 13), min_size=2, max_size=4).filter(lambda n: sum(k > 1 for k in n) > 1)
    )
    chunk = tuple(data.draw(st.integers(1, n + 3)) for n in shape)
    dtype = data.draw(st.sampled_from(["u1", ">u2", "<f4"]))
    path = tmp_path_factory.mktemp("any") / "a.h5"
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "cube", shape, dtype, chunks=chunk, maxshape=[None] * len(shape), fillvalue=7,
            compression=data.draw(st.sampled_from([None, "gzip"])), shuffle=data.draw(st.booleans()),
        )  # fmt: skip
        made[: data.draw(st.integers(0, shape[0]))] = values[: data.draw(st.integers(0, 1)) or None][:1]

    same_as_h5py(path)


# -- what a reader of raw chunks gets wrong --------------------------------------------------------


def test_chunks_that_were_never_written_hold_the_fill_value(path: Path) -> None:
    with h5py.File(path, "w") as file:
        made = file.create_dataset("cube", (20, 33, 41), "i2", chunks=(3, 16, 16), compression="gzip", fillvalue=-7)
        made[4:9, 5:20] = 3
        file.create_dataset("none", (5, 6), "f4", chunks=(2, 2), fillvalue=np.nan)
        file.create_dataset("late", (5, 6), "i4", fillvalue=9)  # contiguous, and never written either

    same_as_h5py(path)


def test_a_chunk_may_have_left_a_filter_out(path: Path) -> None:
    block = np.arange(256, dtype="<u2").reshape(16, 16)
    with h5py.File(path, "w") as file:
        made = file.create_dataset("cube", (32, 16), "<u2", chunks=(16, 16), compression="gzip", shuffle=True)
        made[:] = 5
        made.id.write_direct_chunk((0, 0), block.tobytes(), filter_mask=0b11)  # neither shuffled nor deflated

    same_as_h5py(path)


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, {"shuffle": True}])
def test_edge_chunks_that_were_left_unfiltered_are_read(path: Path, filters: dict[str, Any]) -> None:
    # H5Pset_chunk_opts is not in h5py, so the library that h5py loaded is asked itself.
    found = sorted(Path(h5py.__file__).parent.with_name("h5py.libs").glob("libhdf5-*"))
    if not found:
        pytest.skip("h5py brings no HDF5 library of its own here")
    library = ctypes.CDLL(str(found[0]))
    library.H5Pset_chunk_opts.argtypes = [ctypes.c_int64, ctypes.c_uint]
    with h5py.File(path, "w", libver="latest") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((16, 16))
        if "shuffle" in filters:
            plan.set_shuffle()
        else:
            plan.set_deflate(4)
        assert library.H5Pset_chunk_opts(plan.id, 2) >= 0  # H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS
        made = h5py.h5d.create(file.id, b"cube", h5py.h5t.STD_U16LE, h5py.h5s.create_simple((24, 40)), plan)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(24 * 40, dtype=np.uint16).reshape(24, 40))
        assert made.get_chunk_info_by_coord((16, 32)).size == 512

    assert way_of(path, "cube") == "chunks"
    same_as_h5py(path)


def test_data_behind_a_user_block_are_found(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=2048) as file:
        file["plain"] = CUBE.astype("u2")
        file.create_dataset("packed", data=CUBE.astype("u2"), compression="gzip")

    assert way_of(path, "plain") == "plain"
    assert way_of(path, "packed") == "chunks"
    same_as_h5py(path)


def test_integers_of_twelve_bits_are_what_the_library_makes_of_them(path: Path) -> None:
    with h5py.File(path, "w") as file:
        kind = h5py.h5t.STD_I16LE.copy()
        kind.set_precision(12)
        kind.set_offset(2)
        made = h5py.h5d.create(file.id, b"odd", kind, h5py.h5s.create_simple((8, 9)))
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(-36, 36, dtype=np.int16).reshape(8, 9))

    assert way_of(path, "odd") == "library"
    same_as_h5py(path)


def test_a_type_that_numpy_has_not_is_no_picture_and_hides_none(path: Path) -> None:
    with h5py.File(path, "w") as file:
        kind = h5py.h5t.IEEE_F64LE.copy()
        kind.set_fields(63, 40, 23, 0, 40)
        kind.set_ebias(1 << 22)
        h5py.h5d.create(file.id, b"odd", kind, h5py.h5s.create_simple((8, 9)))
        file["cube"] = CUBE
    reader = open_source(path)

    assert [image.name for image in reader.describe().images] == ["cube"]
    reader.close()


def test_numbers_with_names_keep_them_and_are_never_averaged(path: Path) -> None:
    kinds = h5py.enum_dtype({"SEA": 1, "DRY LAND": 2, "ICE": 9}, basetype="u1")
    with h5py.File(path, "w") as file:
        file.create_dataset("kinds", data=np.array([[1, 2, 9], [9, 9, 1]], "u1"), dtype=kinds)
        file.create_dataset("packed", data=np.array([[1, 2], [9, 9]], "u1"), dtype=kinds, compression="gzip")
        file["flags"] = np.array([[True, False], [False, False]])
    reader = open_source(path)
    images = {image.name: image for image in reader.describe().images}
    reader.close()

    assert images["kinds"].attributes["flag_values"].tolist() == [1, 2, 9]
    assert images["kinds"].attributes["flag_meanings"] == "SEA DRY_LAND ICE"
    assert {image.reduction for image in images.values()} == {Reduction.MODE}
    same_as_h5py(path)


def test_compact_data_are_read(path: Path) -> None:
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((8, 9))
        made = h5py.h5d.create(file.id, b"compact", h5py.h5t.STD_U16LE, space, plan)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(72, dtype=np.uint16).reshape(8, 9))

    same_as_h5py(path)


# -- nothing twice, and many at a time ------------------------------------------------------------


class Counted:
    """Counts how often each chunk is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded: list[tuple[int, ...]] = []
        original = chunks.Chunked.decode

        def counting(chunked: chunks.Chunked, row: int, place: tuple[int, ...], into: Array) -> None:
            self.decoded.append(place)
            original(chunked, row, place, into)

        monkeypatch.setattr(chunks.Chunked, "decode", counting)


@pytest.mark.parametrize("chunk", [(1, 300, 300), (16, 300, 300), (7, 100, 110), (16, 20, 300)])
def test_no_chunk_is_decoded_twice_however_it_lies_across_what_is_read(
    path: Path, chunk: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(0, 255, (16, 300, 300), np.uint16)
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", data=values, chunks=chunk, compression="gzip")
    counted = Counted(monkeypatch)
    reader = open_source(path)

    pieces = [
        reader.read(0, (slice(z, z + 4), slice(y, min(y + 64, 300)), slice(0, 300)))
        for z in range(0, 16, 4)
        for y in range(0, 300, 64)
    ]
    reader.close()

    assert sum(piece.size for piece in pieces) == values.size
    assert len(counted.decoded) == len(set(counted.decoded)) > 0


def test_chunks_of_one_element_are_read_many_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 60000, (90, 101), np.uint16)
    with h5py.File(path, "w") as file:
        file.create_dataset("plain", data=values, chunks=(1, 1))
        file.create_dataset("packed", data=values, chunks=(1, 1), compression="gzip")
    asked: list[int] = []
    original = chunks._pread

    def counting(file: OpenFile, size: int, offset: int) -> bytes:
        asked.append(offset)
        return original(file, size, offset)

    monkeypatch.setattr(chunks, "_pread", counting)

    same_as_h5py(path)
    asked.clear()
    reader: Reader = open_source(path)
    for number in (0, 1):
        reader.read(number, whole(reader.describe().images[0]))
    reader.close()

    assert len(asked) < 400  # of 18,180 chunks


def test_the_walk_is_told_of_the_chunks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", data=CUBE, chunks=(5, 33, 7))
        file["plain"] = CUBE[:, :5]
    reader = open_source(path)
    hints = {image.name: image.source_chunk for image in reader.describe().images}
    reader.close()

    assert hints == {"cube": (5, 33, 7), "plain": None}


# -- what goes wrong -----------------------------------------------------------------------------


def packed(path: Path) -> tuple[int, int]:
    """A file with one gzip data set; where its first chunk lies."""
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", data=CUBE.astype("u2"), chunks=(5, 33, 41), compression="gzip")
    with h5py.File(path, "r") as file:
        info = file["cube"].id.get_chunk_info(0)
    return int(info.byte_offset), int(info.size)


def read_all(path: Path) -> Array:
    reader = open_source(path)
    try:
        region: Region = whole(reader.describe().images[0])
        return reader.read(0, region)
    finally:
        reader.close()


def test_a_chunk_that_does_not_inflate_is_named(path: Path) -> None:
    offset, size = packed(path)
    content = bytearray(path.read_bytes())
    content[offset + size // 2 : offset + size // 2 + 8] = b"\xff" * 8
    path.write_bytes(content)

    with pytest.raises(UnreadableSource, match=r"a\.h5 is damaged: chunk \(0, 0, 0\) of /cube does not decode"):
        read_all(path)


def test_a_wrong_checksum_is_noticed(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", data=CUBE.astype("u2"), chunks=(5, 33, 41), fletcher32=True)
        info = file["cube"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[info.byte_offset + 100] ^= 1
    path.write_bytes(content)

    with pytest.raises(UnreadableSource, match="its checksum is wrong"):
        read_all(path)


def test_a_filter_that_nobody_has_is_named(path: Path) -> None:
    packed(path)
    content = path.read_bytes()
    # The filter's number in the header's message: deflate (1), version 1 of the message, its name behind it.
    at = content.index(b"deflate\0") - 8
    assert content[at : at + 2] == b"\x01\x00"
    path.write_bytes(content[:at] + (32123).to_bytes(2, "little") + content[at + 2 :])

    with pytest.raises(UnsupportedSource, match=r"a\.h5: /cube is compressed by the HDF5 filter 32123 \(deflate\)"):
        read_all(path)


def test_10_to_the_15_values_in_a_kilobyte_are_refused(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", (10**5, 10**5, 10**5), "u1", chunks=(64, 64, 64))

    with pytest.raises(UnreadableSource, match=r"a\.h5 is damaged: /cube .* claims 1e\+15 bytes"):
        read_all(path)


def test_a_chunk_that_claims_gigabytes_is_refused_without_their_being_allocated(path: Path) -> None:
    with h5py.File(path, "w") as file:
        made = file.create_dataset("cube", (1 << 15, 1 << 15), "u1", chunks=(1 << 15, 1 << 15), compression="gzip")
        made.id.write_direct_chunk((0, 0), b"x\x9c" + bytes(100))

    with pytest.raises(UnreadableSource, match="does not decode"):
        read_all(path)


def test_registered_filters_are_there() -> None:
    assert "hdf5plugin" in READER
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(
            h5py.h5z.filter_avail(number) for number in (307, 32000, 32001, 32004, 32008, 32013, 32015, 32026)
        )
