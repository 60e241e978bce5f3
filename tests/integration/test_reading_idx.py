"""IDX of OpenVisus: what is easily got wrong with it, compared with what OpenVisus' own Python reads."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from PIL import Image as Picture
from valid_store import assert_valid

from openvisus_files import needed, read_idx, write_idx
from scientistcloud.cli import group
from scientistcloud.client.files import collect
from scientistcloud.converters.openvisus import OpenVisus, OpenVisusEnded
from scientistcloud.converters.registry import open_source
from scientistcloud.errors import UnreadableSource, UnsafeSource, UnsupportedSource
from scientistcloud.omezarr.image import Array, AxisKind, Reader, Source
from scientistcloud.tasks.conversion import compare, convert
from scientistcloud.testing.converters import whole

pytestmark = pytest.mark.usefixtures("_openvisus")
MIDX = "<dataset typename='IdxMultipleDataset' logic_box='0 99 0 99'>{}</dataset>"


@pytest.fixture(scope="session")
def _openvisus() -> None:
    needed()


@contextmanager
def opened(path: Path, sensor: str = "auto") -> Iterator[Reader]:
    reader = open_source(path, sensor=sensor)
    try:
        yield reader
    finally:
        reader.close()


def look(path: Path) -> tuple[Source, list[Array]]:
    with opened(path) as reader:
        source = reader.describe()
        return source, [reader.read(number, whole(image)) for number, image in enumerate(source.images)]


def pixels(path: Path) -> Array:
    with Picture.open(path) as picture:
        return np.array(picture.convert("L") if picture.mode == "P" else picture)


@pytest.fixture(scope="session")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps in time, the second of which was never written; several files of blocks each."""
    values = np.random.default_rng(5).integers(0, 60000, (2, 10, 70, 90), np.uint16)
    path = tmp_path_factory.mktemp("idx") / "volume.idx"
    return write_idx(
        path,
        {"counts": [values[0], None, values[1]]},
        times=[3, 4, 5],
        bits_per_block=12,
        blocks_per_file=4,
        physic_box=[(10.0, 19.0), (0.0, 14.0), (-5.0, 5.0)],
        axis="X Y Z",
    )


@pytest.fixture
def copied(volume: Path, tmp_path: Path) -> Path:
    shutil.copytree(volume.parent, tmp_path / "set")
    return tmp_path / "set" / volume.name


# -- real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gray", "rgb"])
def test_a_picture_is_that_of_its_png_with_its_rows_from_the_bottom_up(
    name: str, data: Path, tmp_path: Path
) -> None:
    wanted = pixels(data / f"idx/{name}.png")

    form = convert(data / f"idx/{name}.idx", tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    stored: Array = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")["0/data"][...]
    rows = stored if name == "gray" else stored.transpose(1, 2, 0)
    np.testing.assert_array_equal(rows[::-1], wanted)
    assert form["rgb"] == (name == "rgb")
    if name == "rgb":  # the preview stands on its feet
        assert np.abs(pixels(tmp_path / "a.webp").astype(int) - wanted).mean() < 6
    assert_valid(tmp_path / "a.ome.zarr")
    assert compare(tmp_path / "a.ome.zarr", data / f"idx/{name}.idx") == wanted.size


def test_fields_and_steps_in_time_are_those_of_openvisus_and_of_the_tiff(data: Path, tmp_path: Path) -> None:
    slices = np.stack([tifffile.imread(path) for path in sorted((data / "tiff/series").glob("raw_*.tiff"))])
    wanted = read_idx(data / "idx3d/tomo.idx", tmp_path)

    form = convert(data / "idx3d", tmp_path / "a.ome.zarr")

    root: Any = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    assert [axis["name"] for axis in form["axes"]] == ["t", "z", "y", "x"]
    np.testing.assert_array_equal(root["0/counts"][...], np.stack([slices, slices[::-1]]))
    for field in ("counts", "root"):
        made = root[f"0/{field}"][...]
        np.testing.assert_array_equal(made, np.stack([wanted[f"{field}@0"], wanted[f"{field}@1"]]))
        assert made.dtype == wanted[f"{field}@0"].dtype
    assert [image["variable"] for image in form["images"]] == ["counts", "root"]
    assert form["warnings"] == []  # the blocks are no files that were left out
    assert_valid(tmp_path / "a.ome.zarr")  # its levels are ours: means, where IDX has every other sample


def test_a_folder_of_several_is_a_series_of_fields(data: Path) -> None:
    source, values = look(data / "idx")

    assert [image.name for image in source.images] == ["rgb_data", "gray_data"]
    assert source.warnings == ("left out, because they are no IDX: gray.png, rgb.png",)
    np.testing.assert_array_equal(values[1][::-1], pixels(data / "idx/gray.png"))


def test_inspect_explains_an_idx(data: Path) -> None:
    said = CliRunner().invoke(group, ["inspect", str(data / "idx3d/tomo.idx")]).output

    assert "tomo.idx: IDX, read with openvisusnogui" in said
    assert "t 2 (time) every 1 · z 90 · y 135 · x 160" in said
    assert "also    root from root: t 2 × z 90 × y 135 × x 160, float32" in said


# -- what stands where ----------------------------------------------------------------------------


def test_the_box_gives_spacing_and_place(volume: Path) -> None:
    source, (values,) = look(volume)

    assert [(axis.name, axis.spacing, axis.origin) for axis in source.images[0].axes] == [
        ("t", 1.0, 3.0), ("z", 1.0, -4.5), ("y", 0.2, 0.1), ("x", 0.1, pytest.approx(10.05)),
    ]  # fmt: skip
    assert values.shape == (3, 10, 70, 90)


def test_a_box_that_begins_elsewhere_says_where(copied: Path) -> None:
    text = copied.read_text()
    head, _, rest = text.partition("(physic_box)")
    rest = rest.partition("(fields)")[2]
    copied.write_text(head.replace("0 89 0 69", "8 89 16 69") + "(fields)" + rest)

    with opened(copied) as reader:
        source = reader.describe()
        values = reader.read(0, whole(source.images[0]))

    assert [(axis.length, axis.origin) for axis in source.images[0].axes[2:]] == [(54, 16.0), (82, 8.0)]
    assert values.shape == (3, 10, 54, 82)


def test_components_that_are_no_colours_are_channels(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(6, 9, 12, 3)).astype(np.float32)
    path = write_idx(tmp_path / "a.idx", {"velocity": [vectors]}, dims=3)

    source, (values,) = look(path)

    (image,) = source.images
    assert [axis.kind for axis in image.axes] == [AxisKind.CHANNEL, *[AxisKind.SPACE] * 3]
    assert not image.rgb
    assert image.transposed == (3, 0, 1, 2)
    np.testing.assert_array_equal(values, np.moveaxis(vectors, -1, 0))


def test_every_kind_of_number_is_read(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 100, (33, 47))
    kinds = ["int8", "uint8", "int16", "uint32", "int64", "uint64", "float32", "float64"]
    path = write_idx(tmp_path / "a.idx", {kind: [values.astype(kind)] for kind in kinds}, packing="")

    source, made = look(path)

    assert sorted(image.name for image in source.images) == sorted(kinds)
    for image, each in zip(source.images, made, strict=True):
        np.testing.assert_array_equal(each, values)
        assert each.dtype.name == image.name


# -- what is missing ------------------------------------------------------------------------------


def test_a_step_that_was_never_written_is_said_and_empty(volume: Path) -> None:
    source, (values,) = look(volume)

    assert source.warnings == ("volume.idx: nothing was written of the steps in time 4; they are empty",)
    assert not values[1].any()
    assert values[0].any()


@pytest.mark.parametrize(
    ("harm", "said"),
    [("remove", "the block file 0008.bin is missing"), ("cut", "the block file 0008.bin ends at byte"),
     ("spoil", "of 0008.bin does not decompress")],
)  # fmt: skip
def test_blocks_that_openvisus_passes_over_in_silence_are_refused(harm: str, said: str, copied: Path) -> None:
    (block,) = copied.parent.rglob("t005/0008.bin")
    content = bytearray(block.read_bytes())
    if harm == "remove":
        block.unlink()
    elif harm == "cut":
        block.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0xFF
        block.write_bytes(content)
    read_idx(copied, copied.parent)  # which it does

    with pytest.raises(UnreadableSource, match=rf"volume.idx is damaged: .*{said}"):
        look(copied)


def test_a_header_without_its_blocks_is_told_so(copied: Path) -> None:
    shutil.rmtree(copied.with_suffix(""))

    with pytest.raises(UnreadableSource, match=r"volume.idx is a header alone: .* upload the folder with both"):
        look(copied)


@pytest.mark.parametrize(("name", "blocks"), [("idx3d/tomo", 2), ("idx/gray", 1)])
def test_a_header_that_is_sent_takes_its_blocks_along(name: str, blocks: int, data: Path) -> None:
    header = data / f"{name}.idx"

    sent = {each.name: each.path for each in collect([header])}

    assert set(sent) == {
        header.name,
        *(each.relative_to(header.parent).as_posix() for each in header.with_suffix("").rglob("*.bin")),
    }
    assert len(sent) == 1 + blocks


@pytest.mark.parametrize("template", ["../%04x.bin", "/etc/%04x.bin", "./../%04x.bin", "./volume.bin"])
def test_a_header_that_leads_elsewhere_takes_nothing_along(template: str, copied: Path) -> None:
    (copied.parents[1] / "0001.bin").write_bytes(b"secret")
    copied.write_text(copied.read_text().replace("./volume/%04x.bin", template))

    assert [each.name for each in collect([copied])] == ["volume.idx"]


def test_a_header_takes_no_other_file_along(copied: Path) -> None:
    (copied.parent / "volume/notes.txt").write_text("mine")
    (copied.parent / "volume/t003/more/0000.bin").parent.mkdir()
    (copied.parent / "volume/t003/more/0000.bin").write_bytes(b"mine")

    sent = [each.name for each in collect([copied])]

    assert "volume/t003/0000.bin" in sent
    assert not any("notes" in name or "more" in name for name in sent)


# -- files that lead elsewhere --------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    ["/etc/%04x.bin", "../%04x.bin", "./a/../../%04x.bin", "http://localhost:1/%04x.bin", "file:///etc/%04x.bin",
     "$(HOME)/%04x.bin", "~/%04x.bin", "C:\\data\\%04x.bin", "..\\%04x.bin", "./%s/%04x.bin", "./plain.bin"],
)  # fmt: skip
def test_blocks_outside_the_data_set_are_refused(template: str, copied: Path) -> None:
    copied.write_text(copied.read_text().replace("./volume/%04x.bin", template))

    with pytest.raises(UnsafeSource, match=r"volume.idx"):
        open_source(copied)


def test_steps_in_time_outside_the_data_set_are_refused(copied: Path) -> None:
    copied.write_text(copied.read_text().replace("t%03d/", "../../t%03d/"))

    with pytest.raises(UnsafeSource, match=r"volume.idx names its blocks '../../t%03d/'"):
        open_source(copied)


def test_blocks_that_are_links_out_of_the_data_set_are_refused(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 1000)
    (block,) = copied.parent.rglob("t005/0008.bin")
    block.unlink()
    block.symlink_to(tmp_path / "secret")

    with pytest.raises(UnsafeSource, match=r"leads .*to a file outside"):
        open_source(copied)


def test_a_name_that_is_an_address_with_a_query_is_refused(copied: Path) -> None:
    odd = copied.rename(copied.with_name("a.idx?cache_dir=x"))

    with pytest.raises(UnsafeSource, match="rename it"):
        open_source(odd)


@pytest.mark.parametrize(
    ("inside", "error", "said"),
    [
        ("<dataset url='http://example.org/a.idx' />", UnsafeSource, "names 'http://example.org/a.idx'"),
        ("<dataset url='/etc/a.idx' />", UnsafeSource, "names '/etc/a.idx', outside"),
        ("<dataset url='../a.idx' />", UnsafeSource, "names '../a.idx', outside"),
        ("<field name='x'><code>output=input.a.b</code></field>", UnsafeSource, "holds a program"),
        ("<dataset url='a.idx' />", UnsupportedSource, "send the .idx files that it is made of"),
    ],
)
def test_what_puts_others_together_is_never_followed_nor_run(
    inside: str, error: type[Exception], said: str, tmp_path: Path
) -> None:
    (tmp_path / "all.midx").write_text(MIDX.format(inside))

    with pytest.raises(error, match=said):
        open_source(tmp_path / "all.midx")


# -- OpenVisus itself -----------------------------------------------------------------------------


def test_where_openvisus_is_missing_it_is_said_what_to_install(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(UnsupportedSource, match=r"volume.idx needs OpenVisus, .*pip install openvisusnogui"):
        open_source(volume)


def test_openvisus_that_dies_ends_no_one_else(volume: Path) -> None:
    with opened(volume) as reader:
        process: OpenVisus = reader._reader._opened[0].process  # type: ignore[attr-defined]  # to end it
        process._process.kill()

        with pytest.raises(UnreadableSource, match="OpenVisus ended over it"):
            reader.read(0, whole(reader.describe().images[0]))
        with pytest.raises(OpenVisusEnded):
            process.ask("open", path="")


def test_openvisus_leaves_nothing_in_the_home_folder(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    look(volume)

    assert list(tmp_path.iterdir()) == []


def test_its_recipe_is_kept(data: Path, tmp_path: Path) -> None:
    convert(data / "idx/gray.idx", tmp_path / "a.ome.zarr")

    ours = json.loads((tmp_path / "a.ome.zarr/zarr.json").read_bytes())["attributes"]["scientistcloud"]
    assert ours["sensor"] == "IDX"
    assert "(filename_template)" in ours["source_metadata"]["gray.idx"]["header"]
