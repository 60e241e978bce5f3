"""What is written, read back by others: zarr-python, tensorstore, xarray and the validator of OME-Zarr."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ome_zarr_models.v05 import BioFormats2Raw
from ome_zarr_models.v05 import Image as ValidImage

from scientistcloud.errors import BrokenPlugin, UnreadableSource
from scientistcloud.omezarr import budget, grid
from scientistcloud.omezarr.check import BrokenStore, check, compare
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Coordinate, Reduction, Region
from scientistcloud.omezarr.plan import WriteOptions
from scientistcloud.omezarr.pyramid import downsample
from scientistcloud.omezarr.writer import Written, write
from scientistcloud.testing.arrays import ArrayReader, image_of

RANDOM = np.random.default_rng(11)
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]


def written(reader: ArrayReader, store: Path, **options: Any) -> Written:
    store.mkdir()
    return write(reader, reader.describe(), store, options=WriteOptions(**options))


def same_bits(one: Array, other: Array) -> bool:
    """Equal in every bit: the payload of NaN and the sign of zero count."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def levels_of(store: Path, entry: dict[str, Any]) -> list[Array]:
    root = zarr.open_group(store, mode="r")
    return [np.asarray(root[dataset["path"]][...]) for dataset in entry["datasets"]]


def entries_of(store: Path) -> list[dict[str, Any]]:
    document = json.loads((store / "zarr.json").read_text())
    multiscales: list[dict[str, Any]] = document["attributes"]["ome"]["multiscales"]
    return multiscales


@st.composite
def images(draw: st.DrawFn) -> tuple[str, Array, dict[str, Any]]:
    axes = draw(st.sampled_from(["yx", "zyx", "cyx", "tyx", "eyx", "tzyx", "czyx", "tcyx", "tczyx", "teyx"]))
    few_steps = st.integers(1, 3)
    sides = {"y": st.sampled_from([1, 7, 64, 257, 300]), "x": st.sampled_from([1, 13, 256, 521]),
             "z": st.sampled_from([1, 3, 70]), "t": few_steps, "c": few_steps, "e": few_steps}  # fmt: skip
    shape = tuple(draw(sides[each]) for each in axes)
    if np.prod(shape) > 3_000_000:
        shape = (*(min(n, 3) for n in shape[:-2]), *shape[-2:])
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    seed = draw(st.integers(0, 99))
    few = draw(st.booleans())
    generator = np.random.default_rng(seed)
    if few or dtype.kind == "b":
        values = generator.integers(0, 2 if dtype.kind == "b" else 5, shape).astype(dtype)
    else:
        values = generator.integers(0, 256, (*shape, dtype.itemsize)).astype("u1").view(dtype)[..., 0]
    fields: dict[str, Any] = {}
    if draw(st.booleans()) and dtype.kind in "iuf":
        fields["fill"] = (3,)
    if draw(st.booleans()):
        fields["source_chunk"] = tuple(draw(st.integers(1, n)) for n in shape)
    return axes, values, fields


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    images(),
    st.sampled_from([Reduction.MEAN, Reduction.MAXIMUM, Reduction.MODE, Reduction.NEAREST]),
    # Shards and slabs as they are would need images of hundreds of MiB to be more than one.
    st.sampled_from([1, 1 << 17, grid.SHARD_BYTES]),
    st.sampled_from([1, 1 << 18, budget.HELD_BYTES]),
)
def test_whatever_the_image_level_0_is_exact_and_each_level_is_made_of_the_one_before(
    case: tuple[str, Array, dict[str, Any]], reduction: Reduction, shard_bytes: int, held_bytes: int
) -> None:
    axes, values, fields = case
    if values.dtype.kind == "c" and reduction is Reduction.MAXIMUM:
        reduction = Reduction.MEAN
    image = image_of(values, axes, reduction=reduction, **fields)
    folder = Path(tempfile.mkdtemp())
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grid, "SHARD_BYTES", shard_bytes)
            patch.setattr(budget, "HELD_BYTES", held_bytes)
            patch.setattr(budget, "SLAB_BYTES", 2 * held_bytes)
            made = written(ArrayReader((image, values)), folder / "a.ome.zarr")

        (entry,) = entries_of(folder / "a.ome.zarr")
        levels = levels_of(folder / "a.ome.zarr", entry)
        assert same_bits(levels[0], values)
        for (before, after), level in zip(pairwise(levels), made.variables[0].member.levels[1:], strict=True):
            wanted = downsample(before, level.steps, reduction=reduction, fill=image.fill)
            np.testing.assert_array_equal(after, wanted)
        ValidImage.from_zarr(zarr.open_group(folder / "a.ome.zarr", mode="r"))
        assert check(folder / "a.ome.zarr", values=True) == values.size
    finally:
        shutil.rmtree(folder)


def test_bits_that_no_value_distinguishes_are_kept() -> None:
    values = np.zeros((300, 300), "f4")
    values[10:20] = -0.0
    values.view("u4")[30:40] = 0x7FC01234  # a NaN with a payload
    values.view("u4")[50:60] = 0xFF800001  # a signalling one
    folder = Path(tempfile.mkdtemp())

    for number, fill in enumerate([(), (np.nan,), (0.0,)]):
        store = folder / f"{number}.ome.zarr"
        written(ArrayReader((image_of(values, fill=fill), values)), store)

        assert same_bits(levels_of(store, entries_of(store)[0])[0], values)
    shutil.rmtree(folder)


def test_a_chunk_of_minus_zero_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    values = np.full((300, 300), -0.0, "f8")

    written(ArrayReader((image_of(values), values)), tmp_path / "a.ome.zarr")

    assert same_bits(levels_of(tmp_path / "a.ome.zarr", entries_of(tmp_path / "a.ome.zarr")[0])[0], values)


@pytest.mark.parametrize("memory_mib", [64, 4096])
def test_what_is_written_does_not_depend_on_the_memory_given(tmp_path: Path, memory_mib: int) -> None:
    values = RANDOM.integers(0, 60_000, (70, 600, 600)).astype("u2")
    reader = ArrayReader((image_of(values, "zyx", source_chunk=(1, 600, 600)), values))
    for name, memory in (("reference", 512), ("other", memory_mib)):
        (tmp_path / name).mkdir()
        write(reader, reader.describe(), tmp_path / name, memory_bytes=memory << 20)

    one = {path.relative_to(tmp_path / "reference"): path.read_bytes() for path in files(tmp_path / "reference")}
    other = {path.relative_to(tmp_path / "other"): path.read_bytes() for path in files(tmp_path / "other")}

    assert one == other
    assert len(one) > 20


def files(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file())


def test_no_voxel_is_read_twice_but_for_the_look_at_a_few_places(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 255, (70, 600, 600)).astype("u1")
    reader = ArrayReader((image_of(values, "zyx", source_chunk=(1, 600, 600)), values))

    written(reader, tmp_path / "a.ome.zarr")

    looks = [region for _, region in reader.asked if region[1].stop - region[1].start < 600]
    seen = np.zeros(values.shape, int)
    for _, region in reader.asked:
        if region not in looks:
            seen[region] += 1
    assert len(looks) == 8
    assert (seen == 1).all()


def test_chunks_lie_in_shards_compressed_by_blosc_with_bit_shuffle(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 60_000, (100, 300, 300)).astype("u2")

    written(ArrayReader((image_of(values, "zyx"), values)), tmp_path / "a.ome.zarr")

    array = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")["0/image"]
    (codec,) = array.compressors
    assert array.chunks == (64, 64, 64)
    assert array.shards == (128, 320, 320)
    assert codec.shuffle.value == "bitshuffle"
    ours = json.loads((tmp_path / "a.ome.zarr" / "zarr.json").read_text())["attributes"]["scientistcloud"]
    assert ours["arrays"]["0/image"]["codec"] == f"blosc {codec.cname.value} 1 bitshuffle"
    assert len(list(files(tmp_path / "a.ome.zarr" / "0" / "image"))) == 2


def a_climate() -> ArrayReader:
    """Two packed variables on one grid, with every kind of coordinate."""
    shape = (3, 300, 500)
    packed = RANDOM.integers(-30_000, 30_000, shape).astype("i2")
    packed[:, :20, :20] = -32_767
    floats = RANDOM.normal(280, 10, shape).astype("f4")
    floats[:, 100:120, 5:50] = -1e30
    axes = (
        Axis(name="time", kind=AxisKind.TIME, length=3, spacing=1.0, unit="day"),
        Axis(name="lat", kind=AxisKind.SPACE, length=300, spacing=0.5),
        Axis(name="lon", kind=AxisKind.SPACE, length=500, spacing=0.5),
    )
    coordinates = (
        Coordinate(
            name="time", dims=("time",), values=np.array([0, 31, 59]),
            attributes={"units": "days since 2001-01-01", "calendar": "noleap", "bounds": "time_bnds"},
        ),
        Coordinate(name="time_bnds", dims=("time", "bnds"), values=np.array([[0, 31], [31, 59], [59, 90]])),
        Coordinate(name="lat", dims=("lat",), values=np.linspace(75, -74.5, 300)),
        Coordinate(name="lon", dims=("lon",), values=np.arange(500, dtype="f4") / 2, attributes={"long_name": "x"}),
        Coordinate(name="area", dims=("lat", "lon"), values=np.ones((300, 500)), attributes={"_FillValue": 9e9}),
        Coordinate(name="crs", dims=(), values=np.array(0), attributes={"grid_mapping_name": "latitude_longitude"}),
    )  # fmt: skip
    fields: dict[str, Any] = {"axes": axes, "coordinates": coordinates}
    z = image_of(
        packed, name="z", fill=(-32_767,), valid_range=(-30_000, 30_000),
        attributes={"scale_factor": -1.7250274674967954, "add_offset": 66825.5, "_FillValue": np.int16(-32_767),
                    "units": "m2 s-2", "valid_range": np.array([-30_000, 30_000], "i2"), "grid_mapping": "crs"},
        **fields,
    )  # fmt: skip
    t = image_of(
        floats, name="t", fill=(-1e30,), attributes={"_FillValue": np.float32(-1e30), "units": "K"}, **fields
    )
    return ArrayReader((z, packed), (t, floats), sensor="NETCDF")


def test_each_level_is_a_data_set_that_xarray_opens_with_its_coordinates(tmp_path: Path) -> None:
    reader = a_climate()
    z, t = reader._values

    written(reader, tmp_path / "a.ome.zarr")

    with xarray.open_datatree(tmp_path / "a.ome.zarr", engine="zarr", decode_times=False) as tree:
        assert list(tree.children) == ["0", "1"]
        full, half = tree["0"].to_dataset(), tree["1"].to_dataset()
        missing = z == -32_767
        np.testing.assert_array_equal(full["z"].values[~missing], z[~missing] * -1.7250274674967954 + 66825.5)
        assert np.isnan(full["z"].values[missing]).all()
        np.testing.assert_array_equal(full["t"].values, np.where(t == np.float32(-1e30), np.nan, t))
        assert full["z"].attrs["units"] == "m2 s-2"
        assert full["z"].attrs["grid_mapping"] == "crs"
        assert set(full.coords) == {"time", "lat", "lon", "area"}
        np.testing.assert_array_equal(full["lat"], np.linspace(75, -74.5, 300))
        np.testing.assert_array_equal(full["time_bnds"], [[0, 31], [31, 59], [59, 90]])
        np.testing.assert_allclose(half["lat"], np.linspace(75, -74.5, 300).reshape(-1, 2).mean(1))
        assert half["z"].shape == (3, 150, 250)
        assert half["area"].shape == (150, 250)
    with xarray.open_zarr(tmp_path / "a.ome.zarr", group="1") as half:
        assert half["time"].dt.calendar == "noleap"


def test_each_variable_has_its_multiscale_entry_the_default_one_first(tmp_path: Path) -> None:
    written(a_climate(), tmp_path / "a.ome.zarr")

    entries = entries_of(tmp_path / "a.ome.zarr")
    assert [entry["name"] for entry in entries] == ["z", "t"]
    assert [dataset["path"] for dataset in entries[1]["datasets"]] == ["0/t", "1/t"]
    assert all(entry["omero"]["channels"] for entry in entries)
    ValidImage.from_zarr(zarr.open_group(tmp_path / "a.ome.zarr", mode="r"))


def test_unequal_images_stand_side_by_side_and_each_is_valid(tmp_path: Path) -> None:
    arrays = [RANDOM.integers(0, 255, shape).astype("u1") for shape in ((400, 500), (3, 40, 50), (30, 40))]
    pairs = [(image_of(values, name=f"image_{i}"), values) for i, values in enumerate(arrays)]

    made = written(ArrayReader(*pairs), tmp_path / "a.ome.zarr")

    root = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    assert root.attrs["ome"] == {"version": "0.5", "bioformats2raw.layout": 3}
    assert root["OME"].attrs["ome"]["series"] == ["0", "1", "2"]
    BioFormats2Raw.from_zarr(root)
    for i, (_, values) in enumerate(pairs):
        ValidImage.from_zarr(root[str(i)])
        np.testing.assert_array_equal(root[f"{i}/0/image_{i}"][...], values)
        assert made.variables[i].path() == f"{i}/0/image_{i}"
    with xarray.open_datatree(tmp_path / "a.ome.zarr", engine="zarr") as tree:
        assert tree["1/0/image_1"].shape == (3, 40, 50)


def test_a_reader_that_gives_something_else_than_it_described_is_named_as_broken(tmp_path: Path) -> None:
    values = np.zeros((30, 30), "u2")

    class Other(ArrayReader):
        def read(self, image: int, region: Region) -> Array:
            return super().read(image, region).astype("u4")

    with pytest.raises(BrokenPlugin, match="gave uint32"):
        written(Other((image_of(values), values)), tmp_path / "a.ome.zarr")


def test_an_error_of_the_reader_in_the_middle_ends_the_writing_with_that_error(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 255, (200, 300, 300)).astype("u1")

    class Torn(ArrayReader):
        def read(self, image: int, region: Region) -> Array:
            if region[0].stop > 150 and region[1].stop == 300 and region[1].start == 0:
                raise UnreadableSource("scan.tif ends after 150 of 200 pages; upload it again")
            return super().read(image, region)

    with pytest.raises(UnreadableSource, match="150 of 200"):
        written(Torn((image_of(values, "zyx", source_chunk=(1, 300, 300)), values)), tmp_path / "a.ome.zarr")

    assert not (tmp_path / "a.ome.zarr" / "zarr.json").exists()


def test_what_report_raises_ends_the_writing(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 255, (200, 300, 300)).astype("u1")
    reader = ArrayReader((image_of(values, "zyx"), values))

    class Stop(Exception):
        pass

    def report(fraction: float, step: str) -> None:
        if fraction > 0.2:
            raise Stop

    (tmp_path / "a").mkdir()
    with pytest.raises(Stop):
        write(reader, reader.describe(), tmp_path / "a", report=report)


def test_progress_only_grows_and_says_what_is_written(tmp_path: Path) -> None:
    reader = a_climate()
    told: list[tuple[float, str]] = []
    (tmp_path / "a").mkdir()

    write(reader, reader.describe(), tmp_path / "a", report=lambda fraction, step: told.append((fraction, step)))

    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1
    assert {"writing z (1 of 2)", "writing t (2 of 2)", "metadata"} <= {step.partition(":")[0] for _, step in told}


def test_a_shard_that_is_cut_off_or_empty_inside_is_found_by_the_check(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 60_000, (100, 300, 300)).astype("u2")
    written(ArrayReader((image_of(values, "zyx"), values)), tmp_path / "a.ome.zarr")
    shard = next(files(tmp_path / "a.ome.zarr" / "0" / "image" / "c"))
    whole = shard.read_bytes()

    for torn in (whole[: len(whole) // 2], bytes(len(whole) - 2000) + whole[-2000:]):
        shard.write_bytes(torn)
        with pytest.raises(BrokenStore, match="0/image"):
            check(tmp_path / "a.ome.zarr", values=True)


def test_a_missing_level_or_root_is_found_by_the_check(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 255, (600, 600)).astype("u1")
    written(ArrayReader((image_of(values), values)), tmp_path / "a.ome.zarr")
    check(tmp_path / "a.ome.zarr")

    (tmp_path / "a.ome.zarr" / "1" / "image" / "zarr.json").unlink()
    with pytest.raises(BrokenStore, match="1/image"):
        check(tmp_path / "a.ome.zarr")
    (tmp_path / "a.ome.zarr" / "zarr.json").unlink()
    with pytest.raises(BrokenStore, match="no OME-Zarr image"):
        check(tmp_path / "a.ome.zarr")


def test_one_changed_value_is_found_by_the_comparison(tmp_path: Path) -> None:
    values = RANDOM.normal(size=(4, 300, 300)).astype("f4")
    values[0, 0, 0] = np.nan
    reader = ArrayReader((image_of(values, "zyx"), values.copy()))
    written(reader, tmp_path / "a.ome.zarr")

    assert compare(tmp_path / "a.ome.zarr", reader) == values.size
    reader._values[0][2, 100, 7] += 1
    with pytest.raises(BrokenStore, match=r"\[2, 100, 7\]"):
        compare(tmp_path / "a.ome.zarr", reader)


@settings(deadline=None, max_examples=20)
@given(values=hnp.arrays("u2", hnp.array_shapes(min_dims=2, max_dims=3, max_side=20)))
def test_tensorstore_reads_what_was_written(values: Array) -> None:
    import tensorstore

    folder = Path(tempfile.mkdtemp())
    written(ArrayReader((image_of(values, "zyx"[-values.ndim :]), values)), folder / "a")

    store = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / "a/0/image")}}, open=True
    ).result()
    np.testing.assert_array_equal(store.read().result(), values)
    assert store.domain.labels == tuple("zyx"[-values.ndim :])
    shutil.rmtree(folder)
