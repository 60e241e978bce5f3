"""What a conversion leaves behind when it cannot go on: an error that says why, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from scientistcloud.converters import registry
from scientistcloud.errors import (
    Cancelled,
    InvalidParameters,
    NoSpace,
    NotFound,
    SourceError,
    UnreadableSource,
    UnsupportedSource,
)
from scientistcloud.omezarr.image import Array, Reader, Reduction, Region, Source
from scientistcloud.records import Json
from scientistcloud.tasks.contract import Work
from scientistcloud.tasks.conversion import ConversionTask, convert
from scientistcloud.tasks.conversion_options import read_options, write_options

RANDOM = np.random.default_rng(3)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A volume of 24 MiB that does not compress."""
    path = tmp_path / "noise.tif"
    tifffile.imwrite(path, RANDOM.integers(0, 65536, (48, 512, 512)).astype("u2"), photometric="minisblack")
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_cancelled_conversion_leaves_nothing_behind_and_ends_within_a_second(noise: Path, tmp_path: Path) -> None:
    told: list[float] = []

    def report(fraction: float, step: str) -> None:
        if fraction > 0.3:
            told.append(time.monotonic())
            raise Cancelled("the job's end was asked for")

    with pytest.raises(Cancelled):
        convert(noise, tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp", report=report)

    assert names(tmp_path) == {"noise.tif"}
    assert len(told) == 1


def test_a_damaged_file_is_refused_by_name_and_leaves_nothing_behind(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"corrupt\.tif"):
        convert(data / "bad/corrupt.tif", tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    assert names(tmp_path) == set()


def test_a_plot_is_refused_naming_its_variables(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSource, match=r"ub.*sb"):
        convert(data / "netcdf/ubyte.nc", tmp_path / "a.ome.zarr")

    assert names(tmp_path) == set()


def test_a_source_that_changes_while_it_is_read_is_noticed(noise: Path, tmp_path: Path) -> None:
    def report(fraction: float, step: str) -> None:
        if step == "metadata":
            os.utime(noise, ns=(1, 1))

    with pytest.raises(UnreadableSource, match=r"noise\.tif changed while it was converted"):
        convert(noise, tmp_path / "a.ome.zarr", report=report)

    assert names(tmp_path) == {"noise.tif"}


def test_an_existing_output_is_never_overwritten(noise: Path, tmp_path: Path) -> None:
    (tmp_path / "a.ome.zarr").mkdir()

    with pytest.raises(InvalidParameters, match=r"a\.ome\.zarr exists already"):
        convert(noise, tmp_path / "a.ome.zarr")

    assert names(tmp_path / "a.ome.zarr") == set()


def test_a_cancel_that_comes_last_leaves_nothing_and_none_comes_after_the_store_has_appeared(
    noise: Path, tmp_path: Path
) -> None:
    told: list[bool] = []

    def report(fraction: float, step: str) -> None:
        told.append((tmp_path / "a.ome.zarr").exists())
        if step == "publishing":
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        convert(noise, tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp", report=report)

    assert names(tmp_path) == {"noise.tif"}
    assert not any(told)


def test_an_output_in_no_folder_and_a_source_that_is_not_there_are_said_so(noise: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameters, match="there is no folder"):
        convert(noise, tmp_path / "gone" / "a.ome.zarr")
    with pytest.raises(InvalidParameters, match="for the preview"):
        convert(noise, tmp_path / "a.ome.zarr", preview=tmp_path / "gone" / "a.webp")
    with pytest.raises(NotFound, match=r"gone\.tif"):
        convert(tmp_path / "gone.tif", tmp_path / "a.ome.zarr")


def test_a_conversion_that_would_not_fit_is_refused_before_it_starts(
    noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=20 << 20))

    with pytest.raises(NoSpace, match=r"has 0\.0 GiB left and .* needs about 0\.0 GiB"):
        convert(noise, tmp_path / "a.ome.zarr")

    assert names(tmp_path) == {"noise.tif"}


SMALL_DISK = """
import sys
from pathlib import Path
import shutil
from scientistcloud.errors import NoSpace
from scientistcloud.tasks.conversion import convert

disk, source = Path(sys.argv[1]), Path(sys.argv[2])
roomy = shutil.disk_usage("/")
shutil.disk_usage = lambda _: roomy  # so that the disk is found to be full while it is written
try:
    convert(source, disk / "a.ome.zarr")
except NoSpace as full:
    print("NoSpace:", full)
print("left:", sorted(path.name for path in disk.iterdir()))
"""


def test_a_disk_that_fills_up_is_said_so_and_emptied_again(noise: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f"mount -t tmpfs -o size=12m none {disk} && exec {sys.executable} - {disk} {noise}"
    outer = ["unshare", "--mount", "--map-root-user"] if os.geteuid() else ["unshare", "--mount"]
    probe = subprocess.run(
        [*outer, "sh", "-c", f"mount -t tmpfs none {disk}"], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"this machine mounts no small disk for a test: {probe.stderr.strip()}")

    done = subprocess.run(
        [*outer, "sh", "-c", mounted], input=SMALL_DISK, capture_output=True, text=True, check=True, timeout=120
    )

    assert "NoSpace: the disk is full: a.ome.zarr could not be written" in done.stdout
    assert "free some space and try again" in done.stdout
    assert "left: []" in done.stdout


# -- the job -------------------------------------------------------------------------------------


def unheard(fraction: float, step: str) -> None:
    """Where nobody follows the progress."""


def work_on(source: Path, output: Path, parameters: Json) -> Work:
    output.mkdir()
    return Work(
        job_id="1", dataset_uuid="2", job_type="dataset_conversion", token=1, parameters=parameters,
        source=source, output=output, memory_bytes=1 << 30, report=unheard,
    )  # fmt: skip


def test_the_job_publishes_a_store_and_a_preview_and_describes_the_form(data: Path, tmp_path: Path) -> None:
    work = work_on(data / "tiff/microscopy_3d.tif", tmp_path / "out", {"sensor_type": "auto", "levels": 1})

    # The task shuts its process in for good, with every thread that a library starts meanwhile.
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        outcome = process.submit(ConversionTask().run, work).result()

    assert names(work.output) == {"converted.ome.zarr", "preview.webp"} == set(outcome.publish)
    assert outcome.sensor == "TIFF"
    assert outcome.form is not None
    assert outcome.form["preview"] == "preview.webp"
    assert len(outcome.form["levels"]) == 1
    assert outcome.result["shape"] == [31, 61, 57]


@pytest.mark.parametrize(
    "parameters",
    [
        {"levels": 0}, {"levels": "many"}, {"reduce": "median"}, {"codec": "gzip"}, {"axes": "zyx"},
        {"axes": [1, 2]}, {"spacing": {"z": -1}}, {"spacing": {"z": float("nan")}}, {"spacing": "z=1"},
    ],
)  # fmt: skip
def test_parameters_of_a_wrong_form_are_refused_by_name(parameters: Json) -> None:
    (name,) = parameters

    with pytest.raises(InvalidParameters, match=f"{name} is"):
        read_options(parameters), write_options(parameters)


def test_parameters_become_options() -> None:
    reading = read_options({"array": "/z", "axes": ["t", "y", "x"], "spacing": {"y": 2}})
    writing = write_options({"reduce": "or", "levels": 3, "codec": "lz4"})

    assert (reading.array, reading.axes, reading.spacing) == ("/z", ("t", "y", "x"), {"y": 2.0})
    assert (writing.reduction, writing.levels, writing.codec) == (Reduction.OR, 3, "lz4")


# -- readers that misbehave ----------------------------------------------------------------------


class Slow:
    """A reader whose every region takes a while, as from a network share."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.closed = False

    def describe(self) -> Source:
        return self._reader.describe()

    def read(self, image: int, region: Region) -> Array:
        time.sleep(0.05)
        return self._reader.read(image, region)

    def close(self) -> None:
        self.closed = True
        self._reader.close()


def test_the_reader_is_closed_whatever_happens(
    noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Slow] = []
    real = registry.open_source

    def slow(*arguments: object, **named: object) -> Slow:
        opened.append(Slow(real(*arguments, **named)))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(registry, "open_source", slow)

    def report(fraction: float, step: str) -> None:
        if fraction > 0.1:
            raise Cancelled("enough")

    convert(noise, tmp_path / "whole")
    with pytest.raises(Cancelled):
        convert(noise, tmp_path / "cut", report=report)

    assert [each.closed for each in opened] == [True, True]


def test_blocks_that_do_not_fit_the_memory_are_refused_before_one_is_decoded(tmp_path: Path) -> None:
    shape = (40, 1000, 1000)
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.create_dataset("frames", shape, "u2", chunks=shape, compression="gzip")

    with pytest.raises(UnsupportedSource, match=r"/frames lies in blocks of 76 MiB.* needs \d+ MiB.*, and 256 are"):
        convert(tmp_path / "whole.h5", tmp_path / "a.ome.zarr", memory_bytes=256 << 20)
    made = convert(tmp_path / "whole.h5", tmp_path / "a.ome.zarr")

    assert made["shape"] == list(shape)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ome.zarr", "whole.h5"]
