"""Frames of a detector over a scan (sensor 4D_NEXUS): the whole of it, and the images that are made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray
import zarr
from valid_store import assert_valid

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.formats.hdf5.scanned import both_ways
from scientistcloud.converters.registry import open_source
from scientistcloud.errors import InvalidParameters, SourceError, UnsupportedSource
from scientistcloud.omezarr.check import BrokenStore, check
from scientistcloud.omezarr.image import Array, Reader
from scientistcloud.tasks.conversion import compare, convert
from scientistcloud.testing.converters import equal, regions, whole

ROWS, COLUMNS, HEIGHT, WIDTH = 5, 6, 20, 31


@pytest.fixture
def frames() -> Array:
    random = np.random.default_rng(0)
    frames = random.poisson(2, (ROWS, COLUMNS, HEIGHT, WIDTH)).astype(np.uint16)
    frames[:, :, 6:9, 10:14] += random.integers(10, 90, (ROWS, COLUMNS, 1, 1)).astype(np.uint16)
    return frames


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.nxs"


Extra = Callable[[h5py.Group, h5py.Group], None]


def write(
    path: Path, values: Array, extra: Extra | None = None, *, detector: str = "NXdetector", **storage: Any
) -> Path:
    """A file as beamlines write them: the frames in the detector, linked into an NXdata."""
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        home = entry.create_group("instrument/detector")
        home.attrs["NX_class"] = detector
        data = entry.create_group("data")
        data.attrs.update({"NX_class": "NXdata", "signal": "frames"})
        home.create_dataset("frames", data=values, **storage)
        data["frames"] = home["frames"]
        if extra:
            extra(entry, data)
    return path


def opened(path: Path, **options: Any) -> Reader:
    return open_source(path, sensor=options.get("sensor") or "auto", options=ReadOptions(**options))


def everything(path: Path, **options: Any) -> dict[str, Array]:
    """Every image by its name, and the whole under `data/0`, read through the reader alone."""
    reader = opened(path, **options)
    try:
        source = reader.describe()
        found = {image.name: reader.read(i, whole(image)) for i, image in enumerate(source.images)}
        for number, array in enumerate(source.arrays, len(source.images)):
            found[array.path] = reader.read(number, whole(array.image))
        return found
    finally:
        reader.close()


def sensor_of(path: Path, **options: Any) -> str:
    reader = opened(path, **options)
    reader.close()
    return reader.describe().sensor


# -- which files are scans -------------------------------------------------------------------------


def test_four_dimensions_in_a_detector_are_a_scan(path: Path, frames: Array) -> None:
    assert sensor_of(write(path, frames)) == "4D_NEXUS"


def test_four_dimensions_elsewhere_are_not(path: Path, frames: Array) -> None:
    assert sensor_of(write(path, frames, detector="NXcollection")) == "HDF5"


def test_axes_that_lie_in_a_detector_make_a_scan_too(path: Path, frames: Array) -> None:
    def extra(entry: h5py.Group, data: h5py.Group) -> None:
        pixels = entry.create_group("pixels")
        pixels.attrs["NX_class"] = "NXdetector"
        data.attrs["axes"] = [".", ".", "py", "px"]
        for name, length in (("py", HEIGHT), ("px", WIDTH)):
            pixels[name] = np.arange(length) * 0.055
            data[name] = pixels[name]

    assert sensor_of(write(path, frames, extra, detector="NXcollection")) == "4D_NEXUS"


def test_a_stack_in_a_detector_is_no_scan_unless_somebody_says_so(path: Path, frames: Array) -> None:
    write(path, frames.reshape(-1, HEIGHT, WIDTH))

    assert sensor_of(path) == "HDF5"
    assert sensor_of(path, scan=(ROWS, COLUMNS)) == "4D_NEXUS"
    with pytest.raises(UnsupportedSource, match=r"30 frames .* does not say in how many rows .*--scan 3x4"):
        opened(path, sensor="4D_NEXUS")


def test_the_sensor_that_is_named_decides_between_the_two(path: Path, frames: Array, tmp_path: Path) -> None:
    plain = tmp_path / "plain.h5"
    with h5py.File(plain, "w") as file:
        file["frames"] = frames

    assert sensor_of(write(path, frames), sensor="HDF5") == "HDF5"
    assert sensor_of(plain) == "HDF5"
    assert sensor_of(plain, sensor="4D_NEXUS") == "4D_NEXUS"
    with h5py.File(plain, "w") as file:
        file["picture"] = frames[0, 0]
    with pytest.raises(UnsupportedSource, match="no frames at the points of a scan"):
        opened(plain, sensor="4D_NEXUS")


def test_rows_and_columns_without_frames_are_refused(path: Path, frames: Array) -> None:
    with h5py.File(path, "w") as file:
        file["picture"] = frames[0, 0]

    with pytest.raises(InvalidParameters, match="no frames of one in it"):
        opened(path, scan=(3, 3))


# -- the values ------------------------------------------------------------------------------------


def test_the_images_are_what_numpy_makes_of_the_frames(path: Path, frames: Array) -> None:
    found = everything(write(path, frames, chunks=(1, 1, HEIGHT, WIDTH), compression="gzip"))

    total = frames.sum(axis=(2, 3), dtype=np.float64)
    np.testing.assert_array_equal(found["data/0"], frames)
    np.testing.assert_array_equal(found["sum"], total)
    y, x = np.arange(HEIGHT)[:, None], np.arange(WIDTH)[None, :]
    np.testing.assert_allclose(found["centre_of_mass_y"], (frames * y).sum(axis=(2, 3)) / total, rtol=1e-15)
    np.testing.assert_allclose(found["centre_of_mass_x"], (frames * x).sum(axis=(2, 3)) / total, rtol=1e-15)
    np.testing.assert_array_equal(found["mean_frame"], frames.sum(axis=(0, 1)) / (ROWS * COLUMNS))
    np.testing.assert_array_equal(found["maximum_frame"], frames.max(axis=(0, 1)))
    assert found["maximum_frame"].dtype == np.uint16


def test_what_is_not_a_number_counts_nowhere(path: Path, frames: Array) -> None:
    values = frames.astype(np.float64)
    values[1, 2] = np.nan
    values[:, :, 0, 0] = np.nan
    found = everything(write(path, values))

    np.testing.assert_allclose(
        found["sum"], np.where(np.isnan(values).all(axis=(2, 3)), 0, np.nansum(values, (2, 3)))
    )
    assert np.isnan(found["centre_of_mass_y"][1, 2])
    assert np.isnan(found["mean_frame"][0, 0])
    np.testing.assert_allclose(found["mean_frame"][1], np.nanmean(values[:, :, 1], axis=(0, 1)))
    np.testing.assert_array_equal(found["maximum_frame"][1], np.nanmax(values[:, :, 1], axis=(0, 1)))


def test_beam_intensities_beside_the_frames_become_their_ratio(path: Path, frames: Array) -> None:
    before, behind = np.random.default_rng(1).random((2, ROWS, COLUMNS)) + 0.5
    behind[2, 3] = 0

    def extra(entry: h5py.Group, _: h5py.Group) -> None:
        entry["counters/I0"], entry["counters/It"] = before, behind

    found = everything(write(path, frames, extra))

    behind[2, 3] = np.nan
    np.testing.assert_array_equal(found["I0_over_It"], before / behind)


def test_one_intensity_alone_makes_no_ratio(path: Path, frames: Array) -> None:
    def extra(entry: h5py.Group, _: h5py.Group) -> None:
        entry["counters/I0"], entry["other/It"] = np.ones((ROWS, COLUMNS)), np.ones((ROWS, COLUMNS))

    assert "I0_over_It" not in everything(write(path, frames, extra))


def test_pixels_that_the_mask_excludes_count_in_no_map(path: Path, frames: Array) -> None:
    frames[:, :, 3, 4] = 65535
    mask = np.zeros((HEIGHT, WIDTH), np.uint32)
    mask[3, 4] = 1

    def extra(entry: h5py.Group, _: h5py.Group) -> None:
        entry["instrument/detector/pixel_mask"] = mask

    found = everything(write(path, frames, extra))
    (array,) = opened(path).describe().arrays

    (beside,) = (each for each in array.image.coordinates if each.name == "pixel_mask")
    np.testing.assert_array_equal(beside.values, mask)
    np.testing.assert_array_equal(found["sum"], np.where(mask == 0, frames, 0).sum(axis=(2, 3)))
    assert found["maximum_frame"][3, 4] == 65535
    assert any("1 pixels" in warning for warning in opened(path).describe().warnings)


# -- flat scans ------------------------------------------------------------------------------------


def test_flat_frames_become_rows_and_columns_as_they_are_named(path: Path, frames: Array) -> None:
    write(path, frames.reshape(-1, HEIGHT, WIDTH), chunks=(4, HEIGHT, WIDTH), compression="gzip")

    found = everything(path, scan=(ROWS, COLUMNS))

    np.testing.assert_array_equal(found["data/0"], frames)
    np.testing.assert_array_equal(found["sum"], frames.sum(axis=(2, 3)))


def test_an_early_end_is_padded_with_fill_and_said(path: Path, frames: Array) -> None:
    write(path, frames.reshape(-1, HEIGHT, WIDTH)[:22])

    found = everything(path, scan=(ROWS, COLUMNS))
    reader = opened(path, scan=(ROWS, COLUMNS))
    (array,) = reader.describe().arrays
    reader.close()

    wanted = frames.reshape(-1, HEIGHT, WIDTH).copy()
    wanted[22:] = 65535
    np.testing.assert_array_equal(found["data/0"], wanted.reshape(frames.shape))
    assert np.isnan(found["sum"].reshape(-1)[22:]).all()
    np.testing.assert_array_equal(found["sum"].reshape(-1)[:22], frames.sum(axis=(2, 3)).reshape(-1)[:22])
    np.testing.assert_array_equal(found["maximum_frame"], frames.reshape(-1, HEIGHT, WIDTH)[:22].max(axis=0))
    assert (array.image.attributes["_FillValue"], array.image.fill) == (65535, (65535,))
    assert any("8 of its 30 points have no frame" in warning for warning in reader.describe().warnings)


def test_frames_of_floats_are_padded_with_nan(path: Path, frames: Array) -> None:
    write(path, frames.reshape(-1, HEIGHT, WIDTH)[:29].astype(np.float32))

    assert np.isnan(everything(path, scan=(ROWS, COLUMNS))["data/0"][-1, -1]).all()


def test_points_that_were_never_written_count_nowhere_and_are_said(path: Path, frames: Array) -> None:
    with h5py.File(write(path, frames[:, :, :2]), "r+") as file:
        del file["entry/data/frames"], file["entry/instrument/detector/frames"]
        made = file["entry/instrument/detector"].create_dataset(
            "frames", frames.shape, "u2", chunks=(1, 1, HEIGHT, WIDTH), fillvalue=7
        )
        made[:3] = frames[:3]
        file["entry/data/frames"] = made

    found = everything(path)

    assert (found["data/0"][3:] == 7).all()
    assert np.isnan(found["sum"][3:]).all()
    np.testing.assert_array_equal(found["maximum_frame"], frames[:3].max(axis=(0, 1)))
    assert any("12 of its 30 points were never written" in each for each in opened(path).describe().warnings)


@pytest.mark.parametrize("shape", [(4, 6), (29, 1), (1, 29)])
def test_rows_and_columns_that_do_not_fit_are_refused(path: Path, frames: Array, shape: tuple[int, int]) -> None:
    write(path, frames.reshape(-1, HEIGHT, WIDTH))

    with pytest.raises(InvalidParameters, match="do not fit the 30 points of /entry/data/frames"):
        opened(path, scan=shape)


@pytest.mark.parametrize("name", ["scan_shape", "scan_dimensions"])
def test_the_file_may_say_how_many_rows_and_columns(path: Path, frames: Array, name: str) -> None:
    def extra(entry: h5py.Group, _: h5py.Group) -> None:
        entry[f"diamond_scan/{name}"] = np.array([ROWS, COLUMNS])

    write(path, frames.reshape(-1, HEIGHT, WIDTH)[:27], extra)

    found = everything(path)
    assert found["data/0"].shape == frames.shape
    np.testing.assert_array_equal(found["data/0"][:4], frames[:4])


@pytest.mark.parametrize("snake", [False, True])
@pytest.mark.parametrize("count", [ROWS * COLUMNS, ROWS * COLUMNS - 2])
def test_positions_say_how_many_rows_and_columns_also_back_and_forth(
    path: Path, frames: Array, snake: bool, count: int
) -> None:
    order = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    if snake:
        order[1::2] = order[1::2, ::-1].copy()
    y, x = np.divmod(order.reshape(-1)[:count], COLUMNS)
    tremble = np.random.default_rng(2).normal(0, 0.005, (2, count))

    def extra(_: h5py.Group, data: h5py.Group) -> None:
        data.attrs.update({"axes": [".", ".", "."], "stage_y_indices": 0, "stage_x_indices": 0})
        data["stage_y"], data["stage_x"] = 3 + y * 0.5 + tremble[0], x * 0.25 + tremble[1]
        data["stage_x"].attrs["units"] = "mm"

    write(path, frames.reshape(-1, HEIGHT, WIDTH)[order.reshape(-1)[:count]], extra)

    reader = opened(path)
    source = reader.describe()
    reader.close()
    found = everything(path)
    there: Array = np.zeros(ROWS * COLUMNS, np.bool_)
    there[order.reshape(-1)[:count]] = True
    there = there.reshape(ROWS, COLUMNS)
    np.testing.assert_array_equal(found["data/0"][there], frames[there])
    assert np.isnan(found["sum"][~there]).all()
    assert source.images[0].axes[1].spacing == pytest.approx(0.25, rel=0.1)
    assert source.images[0].axes[1].unit == "millimeter"
    assert {each.name for each in source.images[0].coordinates} == {"stage_y", "stage_x"}


@pytest.mark.parametrize("count", [30, 23])
@pytest.mark.parametrize("chunk", [None, (4, 7, 11)])
def test_any_part_of_a_flat_scan_is_that_part_of_the_whole(
    path: Path, frames: Array, count: int, chunk: tuple[int, ...] | None
) -> None:
    write(path, frames.reshape(-1, HEIGHT, WIDTH)[:count], chunks=chunk)
    reader = opened(path, scan=(ROWS, COLUMNS))
    source = reader.describe()
    number, image = len(source.images), source.arrays[0].image

    all_of_it = reader.read(number, whole(image))

    for region in regions(image):
        assert equal(reader.read(number, region), all_of_it[region]), region
    reader.close()


# -- the store -------------------------------------------------------------------------------------


def test_the_store_holds_the_whole_beside_valid_images(path: Path, frames: Array, tmp_path: Path) -> None:
    def extra(_: h5py.Group, data: h5py.Group) -> None:
        data.attrs["axes"] = ["stage_y", "stage_x", ".", "."]
        for name, length in (("stage_y", ROWS), ("stage_x", COLUMNS)):
            data[name] = np.arange(length) * 0.5
            data[name].attrs["units"] = "um"

    write(path, frames, extra, chunks=(1, 1, HEIGHT, WIDTH), compression="gzip")
    form = convert(path, tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    root: Any = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    np.testing.assert_array_equal(root["data/0"][...], frames)
    assert root["data/0"].metadata.dimension_names == ("stage_y", "stage_x", "y", "x")
    assert (form["sensor"], form["variable"], form["shape"]) == ("4D_NEXUS", "sum", [ROWS, COLUMNS])
    assert [(each["path"], each["shape"]) for each in form["arrays"]] == [("data/0", list(frames.shape))]
    by_name = {image["variable"]: root[image["levels"][0]["path"]][...] for image in form["images"]}
    for name, values in everything(path).items():
        if name != "data/0":
            np.testing.assert_array_equal(by_name[name], values)
    assert_valid(tmp_path / "a.ome.zarr")
    assert compare(tmp_path / "a.ome.zarr", path) == ROWS * COLUMNS
    with xarray.open_zarr(tmp_path / "a.ome.zarr", group="data") as made:
        np.testing.assert_array_equal(made["0"].values, frames)
        np.testing.assert_array_equal(made["stage_x"], np.arange(COLUMNS) * 0.5)


def test_frames_that_are_missing_are_masked_for_xarray(path: Path, frames: Array, tmp_path: Path) -> None:
    write(path, frames.reshape(-1, HEIGHT, WIDTH)[:29])
    convert(path, tmp_path / "a.ome.zarr", options=ReadOptions(scan=(ROWS, COLUMNS)))

    with xarray.open_zarr(tmp_path / "a.ome.zarr", group="data") as made:
        assert np.isnan(made["0"].values[-1, -1]).all()
        assert not np.isnan(made["0"].values[:-1]).any()


def test_the_source_is_read_once(
    path: Path, frames: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scientistcloud.converters.formats.hdf5.scan import Scan

    read: list[int] = []
    original = Scan.read

    def counting(scan: Scan, values: Any, region: Any) -> Array:
        made = original(scan, values, region)
        read.append(made.size)
        return made

    monkeypatch.setattr(Scan, "read", counting)
    large = np.tile(frames, (2, 2, 10, 10))
    convert(write(path, large), tmp_path / "a.ome.zarr")

    assert large.size <= sum(read) < 1.3 * large.size  # and a look at a few places


def test_a_second_conversion_in_other_memory_gives_the_same_bytes(
    path: Path, frames: Array, tmp_path: Path
) -> None:
    write(
        path, np.random.default_rng(5).normal(size=(12, 10, 130, 120)).astype(np.float32), chunks=(1, 1, 130, 120)
    )
    for name, mib in (("one", 256), ("two", 512)):
        convert(path, tmp_path / name, memory_bytes=mib << 20)

    one, two = ({file.relative_to(root): file.read_bytes() for file in root.rglob("*") if file.is_file()}
                for root in (tmp_path / "one", tmp_path / "two"))  # fmt: skip
    assert one == two


def test_a_broken_whole_is_noticed(path: Path, frames: Array, tmp_path: Path) -> None:
    convert(write(path, frames), tmp_path / "a.ome.zarr")
    (shard,) = (
        file for file in (tmp_path / "a.ome.zarr/data/0").rglob("*") if file.is_file() and file.suffix == ""
    )
    shard.write_bytes(shard.read_bytes()[:-20])

    with pytest.raises(BrokenStore, match="data/0"):
        check(tmp_path / "a.ome.zarr")


def test_chunks_serve_both_ways_of_slicing() -> None:
    for shape in ((256, 256, 256, 256), (60, 80, 1024, 1024), (512, 512, 16, 16), (3, 3, 4000, 4000), (1, 5, 7, 9)):
        chunk = both_ways(shape)
        counts = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
        frame, point = counts[2] * counts[3], counts[0] * counts[1]
        assert np.prod(chunk) <= 1 << 17
        # Neither needs more than four times as many chunks as the other, as far as there is anything to give away.
        least = chunk[:2] if frame > point else chunk[2:]
        assert max(frame, point) <= 4 * min(frame, point) or least == (1, 1) or min(frame, point) == 1, (
            shape,
            chunk,
        )


# -- real files ------------------------------------------------------------------------------------


def test_a_real_fluorescence_map_is_a_scan_when_its_sensor_is_named(data: Path, tmp_path: Path) -> None:
    source = data / "nexus/savu_i18.nxs"
    form = convert(source, tmp_path / "a.ome.zarr", sensor="4D_NEXUS")

    root: Any = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    with h5py.File(source, "r", locking=False) as file:
        spectra = file["entry1/instrument/xspress3/MCAs"][()]
        before, behind = (file[f"entry1/instrument/raster_counterTimer01/{name}"][()] for name in ("I0", "It"))
    paths = {image["variable"]: image["levels"][0]["path"] for image in form["images"]}
    np.testing.assert_array_equal(root["data/0"][...], spectra)
    np.testing.assert_array_equal(root[paths["I0_over_It"]][...], before / behind)
    np.testing.assert_allclose(root[paths["sum"]][...], spectra.sum(axis=(2, 3)))
    assert_valid(tmp_path / "a.ome.zarr")


def test_the_scan_is_part_of_the_recipe(path: Path, frames: Array, tmp_path: Path) -> None:
    write(path, frames.reshape(-1, HEIGHT, WIDTH))
    convert(path, tmp_path / "a.ome.zarr", options=ReadOptions(scan=(ROWS, COLUMNS)))

    ours = json.loads((tmp_path / "a.ome.zarr/zarr.json").read_text())["attributes"]["scientistcloud"]
    assert ours["options"]["scan"] == [ROWS, COLUMNS]
    assert "it was said so" in ours["reason"]
    assert ours["plain_arrays"]["data/0"]["source"] == "/entry/data/frames"


def test_damage_within_the_frames_is_named(path: Path, frames: Array, tmp_path: Path) -> None:
    write(path, frames, chunks=(1, 1, HEIGHT, WIDTH), compression="gzip")
    with h5py.File(path, "r") as file:
        info = file["entry/data/frames"].id.get_chunk_info(9)
    content = bytearray(path.read_bytes())
    content[info.byte_offset + 20 : info.byte_offset + 60] = bytes(40)
    path.write_bytes(content)

    with pytest.raises(SourceError, match=r"scan\.nxs is damaged: chunk \(1, 3, 0, 0\)"):
        convert(path, tmp_path / "a.ome.zarr")
