"""`--format idx`: what OpenVisus' own Python reads back is what was there, value by value."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray
from photograph_files import photograph
from PIL import Image as Picture

from openvisus_files import needed, read_idx
from scientistcloud.cli import group
from scientistcloud.converters.registry import open_source
from scientistcloud.errors import Cancelled, InvalidParameters, NoSpace, UnsupportedSource
from scientistcloud.omezarr.image import Axis, AxisKind, Channel
from scientistcloud.omezarr.writer import silent, write
from scientistcloud.tasks import idx_form
from scientistcloud.tasks.conversion import convert
from scientistcloud.tasks.conversion_options import form_option
from scientistcloud.testing.arrays import ArrayReader, image_of
from scientistcloud.testing.converters import whole


@pytest.fixture(scope="session", autouse=True)
def _openvisus() -> None:
    needed()


def written(
    tmp_path: Path, *images: tuple[Any, NDArray[Any]]
) -> tuple[idx_form.IdxWritten, dict[str, NDArray[Any]]]:
    """Images as an IDX, and what OpenVisus makes of it."""
    reader = ArrayReader(*images)
    (tmp_path / "store").mkdir()
    made = write(reader, reader.describe(), tmp_path / "store")
    idx = idx_form.write_idx(tmp_path / "store", made, tmp_path / "a.idx", report=silent)
    return idx, read_idx(tmp_path / "a.idx", tmp_path)


def test_a_volume_reads_back_exactly(data: Path, tmp_path: Path) -> None:
    form = convert(data / "tiff/microscopy_3d.tif", tmp_path / "a.idx", form="idx", preview=tmp_path / "a.webp")

    (made,) = read_idx(tmp_path / "a.idx", tmp_path).values()
    np.testing.assert_array_equal(made, tifffile.imread(data / "tiff/microscopy_3d.tif"))
    assert made.dtype == np.uint16
    assert form["format"] == "OpenVisus IDX 6"
    assert [level["path"] for level in form["levels"]] == ["a.idx"]
    assert form["size_bytes"] == sum(
        each.stat().st_size for each in [tmp_path / "a.idx", *(tmp_path / "a").iterdir()]
    )
    with Picture.open(tmp_path / "a.webp") as preview:
        assert preview.size == (57, 61)


def test_colours_are_components(data: Path, tmp_path: Path) -> None:
    convert(data / "drone/orientation/Landscape_3.jpg", tmp_path / "a.idx", form="idx")

    (made,) = read_idx(tmp_path / "a.idx", tmp_path).values()
    with Picture.open(data / "drone/orientation/Landscape_3.jpg") as picture:
        np.testing.assert_array_equal(made, np.array(picture)[::-1, ::-1])


def test_steps_in_time_and_variables_of_one_box_are_kept(data: Path, tmp_path: Path) -> None:
    form = convert(data / "netcdf/eraint_uvz.nc", tmp_path / "a.idx", form="idx")

    made = read_idx(tmp_path / "a.idx", tmp_path)
    reader = open_source(data / "netcdf/eraint_uvz.nc")
    try:
        for number, image in enumerate(reader.describe().images):
            values = reader.read(number, whole(image))
            for step in range(2):
                np.testing.assert_array_equal(made[f"{image.name}@{step}"], values[step])
    finally:
        reader.close()
    assert [image["fields"] for image in form["images"]] == [["z"], ["u"], ["v"]]
    assert "z: values are as stored; IDX has no place for units, scale_factor, add_offset" in form["warnings"]
    assert "the box of the IDX is in pixels, because latitude falls" in form["warnings"]


def test_what_was_written_reads_back_as_it_was_through_the_reader_too(data: Path, tmp_path: Path) -> None:
    convert(data / "idx3d/tomo.idx", tmp_path / "again.idx", form="idx")

    one, other = open_source(data / "idx3d/tomo.idx"), open_source(tmp_path / "again.idx")
    try:
        for number, image in enumerate(one.describe().images):
            assert other.describe().images[number].axes == image.axes
            np.testing.assert_array_equal(other.read(number, whole(image)), one.read(number, whole(image)))
    finally:
        one.close()
        other.close()


def test_every_kind_of_number_is_held(tmp_path: Path) -> None:
    held = {"bool": "uint8", "float16": "float32", "int64": "int64", "uint64": "uint64", "float64": "float64"}
    random = np.random.default_rng(1)
    arrays = {name: (random.random(size=(37, 53)) * 100).astype(name) for name in held}
    wave = (random.normal(size=(37, 53)) + 1j * random.normal(size=(37, 53))).astype(np.complex64)
    pairs = [(image_of(each, name=f"a_{name}"), each) for name, each in arrays.items()]

    idx, made = written(tmp_path, *pairs, (image_of(wave, name="wave"), wave))

    for name, kept_as in held.items():
        np.testing.assert_array_equal(made[f"a_{name}@0"], arrays[name].astype(kept_as))
        assert made[f"a_{name}@0"].dtype == kept_as
    np.testing.assert_array_equal(made["wave@0"][..., 0] + 1j * made["wave@0"][..., 1], wave)
    assert [each for each in idx.warnings if "IDX has no" in each] == [
        "a_bool: IDX has no bool, so it holds uint8",
        "a_float16: IDX has no float16, so it holds float32",
        "wave: IDX has no complex64, so it holds float32[2]",
    ]


def test_channels_become_fields_and_what_has_another_box_is_left_out(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 9000, (3, 2, 20, 30, 40)).astype(np.uint16)
    axes = [
        Axis(name="t", kind=AxisKind.TIME, length=3),
        Axis(name="c", kind=AxisKind.CHANNEL, length=2),
        *(
            Axis(name=n, kind=AxisKind.SPACE, length=k, spacing=0.5, origin=2.0)
            for n, k in zip("zyx", (20, 30, 40), strict=True)
        ),
    ]
    stained = image_of(values, axes, channels=(Channel(label="DAPI"), Channel(label="GFP 488")))
    other = np.zeros((5, 6), np.uint8)

    idx, made = written(tmp_path, (stained, values), (image_of(other, name="label"), other))

    assert idx.fields == {"image": ("image_DAPI", "image_GFP_488")}
    for step in range(3):
        np.testing.assert_array_equal(made[f"image_DAPI@{step}"], values[step, 0])
        np.testing.assert_array_equal(made[f"image_GFP_488@{step}"], values[step, 1])
    assert "(physic_box)\n1.75 21.75 1.75 16.75 1.75 11.75\n" in (tmp_path / "a.idx").read_text()
    assert "left out, because the fields of an IDX have one box: label" in idx.warnings


def test_more_steps_than_fields_are_refused(tmp_path: Path) -> None:
    values = np.zeros((300, 4, 5), np.uint8)

    with pytest.raises(UnsupportedSource, match="would become 300 fields of an IDX"):
        written(tmp_path, (image_of(values, "eyx"), values))


def test_a_picture_larger_than_a_piece_reads_back_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx_form, "_PIECE_BYTES", 1 << 16)
    values = np.random.default_rng(1).integers(0, 65535, (301, 523), np.uint16)

    _, made = written(tmp_path, (image_of(values), values))

    np.testing.assert_array_equal(made["image@0"], values)


# -- as a command and as a job --------------------------------------------------------------------


def test_the_command_writes_it(tmp_path: Path) -> None:
    stored = photograph(tmp_path / "a.png")
    run = CliRunner()

    made = run.invoke(group, ["convert", str(tmp_path / "a.png"), str(tmp_path / "b.idx"), "--format", "idx"])

    assert "note    OpenVisus shows the first row of a picture at the bottom" in made.output
    np.testing.assert_array_equal(read_idx(tmp_path / "b.idx", tmp_path)["image@0"], stored)


JOB = """
import sys
from pathlib import Path
from scientistcloud.omezarr.writer import silent
from scientistcloud.tasks.contract import Work
from scientistcloud.tasks.conversion import ConversionTask

work = Work(
    job_id="j", dataset_uuid="u", job_type="dataset_conversion", token=1, parameters={"format": sys.argv[3]},
    source=Path(sys.argv[1]), output=Path(sys.argv[2]), memory_bytes=1 << 29, report=silent,
)
print(*ConversionTask().run(work).publish)
"""


def job(source: Path, output: Path, form: str) -> subprocess.CompletedProcess[str]:
    """The task in a process of its own, as in the service: it shuts its process in for good."""
    command = [sys.executable, "-c", JOB, str(source), str(output), form]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_job_publishes_it_where_its_parameters_ask_for_it(tmp_path: Path) -> None:
    stored = photograph(tmp_path / "source/a.png")
    (tmp_path / "out").mkdir()

    done = job(tmp_path / "source", tmp_path / "out", "idx")

    assert done.stdout.split() == ["converted.idx", "converted", "preview.webp"], done.stderr
    assert {each.name for each in (tmp_path / "out").iterdir()} == set(done.stdout.split())
    np.testing.assert_array_equal(read_idx(tmp_path / "out/converted.idx", tmp_path)["image@0"], stored)


def test_a_form_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidParameters, match="format is 'cog'; it can be ome-zarr or idx"):
        form_option({"format": "cog"})


def test_a_name_that_openvisus_would_not_know_is_refused(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png")
    (tmp_path / "b").mkdir()

    with pytest.raises(InvalidParameters, match=r"b.ome.zarr does not end in .idx"):
        convert(tmp_path / "a.png", tmp_path / "b.ome.zarr", form="idx")
    with pytest.raises(InvalidParameters, match="where the blocks belong, exists already"):
        convert(tmp_path / "a.png", tmp_path / "b.idx", form="idx")


def test_progress_never_goes_back(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png")
    told: list[tuple[float, str]] = []

    convert(
        tmp_path / "a.png",
        tmp_path / "b.idx",
        form="idx",
        preview=tmp_path / "b.webp",
        report=lambda share, step: told.append((share, step)),
    )

    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert [step for _, step in told][-3:] == ["writing image as IDX", "packing the blocks", "publishing"]


@pytest.mark.parametrize("step", ["packing the blocks", "publishing"])
def test_a_conversion_that_is_cancelled_leaves_nothing(step: str, tmp_path: Path) -> None:
    photograph(tmp_path / "a.png")

    def report(share: float, said: str) -> None:
        if said == step:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        convert(tmp_path / "a.png", tmp_path / "b.idx", form="idx", preview=tmp_path / "b.webp", report=report)

    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


def test_a_disk_without_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.zeros((64, 64), np.uint8)
    reader = ArrayReader((image_of(values), values))
    (tmp_path / "store").mkdir()
    made = write(reader, reader.describe(), tmp_path / "store")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))

    with pytest.raises(NoSpace, match=r"a.idx needs about"):
        idx_form.write_idx(tmp_path / "store", made, tmp_path / "a.idx", report=silent)
    assert not (tmp_path / "a.idx").exists()
