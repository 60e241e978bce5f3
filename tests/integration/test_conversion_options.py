"""What people overrule of a conversion: on the command line, over HTTP, on the page; and doing it again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from portal_site import Site, running_site

from openvisus_files import needed
from scientistcloud.cli import group
from scientistcloud.errors import InvalidParameters, UnreadableSource, UnsafeSource
from scientistcloud.omezarr.streaming import Progress, time_in_words
from scientistcloud.portal.pages.convert import options_of
from scientistcloud.tasks.conversion import convert
from scientistcloud.tasks.conversion_options import write_options
from scientistcloud.tasks.reproduction import reproduce

VALUES = np.random.default_rng(4).integers(0, 3000, (40, 300, 260)).astype("u2")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    values = VALUES.copy()
    values[:, :50] = 7
    tifffile.imwrite(folder / "stack.tif", values, photometric="minisblack", metadata={"axes": "ZYX"})
    return folder


def test_fill_chunk_and_shard_are_as_asked(source: Path, tmp_path: Path) -> None:
    asked = {"fill": 7, "chunk": [16, 32, 64], "shard": [32, 128, 128], "levels": 2, "reduce": "mean"}

    form = convert(source, tmp_path / "out", writing=write_options(asked))

    array = zarr.open_array(tmp_path / "out" / "0" / "image", mode="r")
    assert (array.chunks, array.shards, array.attrs["_FillValue"]) == ((16, 32, 64), (32, 128, 128), 7)
    second = np.asarray(zarr.open_array(tmp_path / "out" / "1" / "image", mode="r")[...])
    assert len(form["levels"]) == 2
    assert (second[:, :25] == 7).all()
    assert abs(second[:, 26:].mean() - 1500) < 20  # without the sevens
    assert form["window"]["min"] == 0
    assert form["options"] == {"sensor": "auto", "codec": "auto", **asked}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"chunk": [0, 64]}, "chunk is"), ({"chunk": [1 << 20] * 2}, "chunk is"), ({"shard": "64"}, "shard is"),
        ({"fill": "x"}, "fill is"), ({"fill": True}, "fill is"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidParameters, match=word):
        write_options(options)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"chunk": [16, 32, 64], "shard": [24, 64, 64]}, "multiple"),
        ({"fill": 0.5}, "can be 0.5"),
        ({"fill": "NaN"}, "can be nan"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(
    options: dict[str, Any], word: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidParameters, match=word):
        convert(source, tmp_path / "out", writing=write_options(options))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_what_people_type_becomes_options() -> None:
    assert options_of({"axes": "t, y, x", "spacing": "y=0.4, x=0.5", "chunk": "1,64, 64", "fill": "-999"}) == {
        "axes": ["t", "y", "x"], "spacing": {"y": 0.4, "x": 0.5}, "chunk": [1, 64, 64], "fill": -999,
    }  # fmt: skip
    assert options_of({"fill": "nan", "levels": "3", "codec": "lz4", "reduce": "mode", "array": "/a/b"}) == {
        "fill": "NaN", "levels": 3, "codec": "lz4", "reduce": "mode", "array": "/a/b",
    }  # fmt: skip
    for wrong in ({"spacing": "wide"}, {"chunk": "a"}, {"levels": "0"}, {"reduce": "median"}, {"fill": "much"}):
        with pytest.raises(InvalidParameters, match=next(iter(wrong))):
            options_of(wrong)


def converted(site: Site, source: Path) -> str:
    return site.add_form(source / "stack.tif")


def test_the_page_says_what_was_chosen_and_converts_again_with_other_choices(source: Path, tmp_path: Path) -> None:
    with running_site(tmp_path / "data") as site:
        uuid = converted(site, source)
        with site.browser() as browser:
            page = browser.get(f"/datasets/{uuid}").text
            csrf = site.csrf(browser)
            typed = {"csrf_token": csrf, "request": "once", "chunk": "32, 64, 64", "reduce": "maximum", "array": ""}
            twice = [browser.post(f"/datasets/{uuid}/convert", data=typed).headers["location"] for _ in range(2)]
            wrong = browser.post(f"/datasets/{uuid}/convert", data={"csrf_token": csrf, "chunk": "wide"})
        with site.program() as client:
            again = client.post(
                f"/api/datasets/{uuid}/convert", json={"fill": -1, "levels": 2, "spacing": {"z": 2.5}}
            )
            stranger = client.post(f"/api/datasets/{uuid}/convert", json={"input_path": "/etc/passwd"})
        jobs = [job.parameters for job in site.store.jobs.find(dataset_uuid=uuid, limit=10)]

    assert "How it was converted" in page
    assert "40 × 300 × 260" in page
    assert "tifffile" in page
    assert twice == [f"/datasets/{uuid}"] * 2
    assert wrong.status_code == 400
    assert "its field shows how to write it" in wrong.text
    assert again.status_code == 202
    assert stranger.status_code == 422
    asked = [
        {k: v for k, v in each.items() if k not in ("input_path", "output_path", "sensor_type")} for each in jobs
    ]
    assert asked == [{"chunk": [32, 64, 64], "reduce": "maximum"}, {"fill": -1, "levels": 2, "spacing": {"z": 2.5}}]
    assert {each["input_path"] for each in jobs} == {f"datasets/{uuid}/source"}


def test_a_conversion_is_done_again_to_the_last_byte(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "converted.ome.zarr"
    convert(source, store, writing=write_options({"chunk": [16, 64, 64], "fill": 7}))

    found = reproduce(store, source)

    assert found.same
    assert found.files == sum(path.is_file() for path in store.rglob("*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["converted.ome.zarr", "source"]

    shard = next(store.glob("0/image/c/*/*/*"))
    damaged = bytearray(shard.read_bytes())
    damaged[100] ^= 1
    shard.write_bytes(damaged)
    values = VALUES.copy()
    tifffile.imwrite(source / "stack.tif", values, photometric="minisblack", metadata={"axes": "ZYX"})

    found = reproduce(store, source)

    assert not found.same
    assert "the source file stack.tif is another" in found.differences
    assert any(line.startswith(str(shard.relative_to(store))) for line in found.differences)


def test_reproduce_is_a_command(source: Path, tmp_path: Path) -> None:
    with running_site(tmp_path / "data") as site:
        uuid = converted(site, source)
    command = ["reproduce", uuid, "--data-dir", str(tmp_path / "data")]

    good = CliRunner().invoke(group, command)
    (tmp_path / "data" / "datasets" / uuid / "source" / "more.tif").write_bytes(b"II*\0")
    other = CliRunner().invoke(group, [*command, "--json"])

    assert good.exit_code == 0, good.output
    assert "the same in all of" in good.output
    assert other.exit_code == 1


def test_each_publication_leaves_its_recipe(tmp_path: Path) -> None:
    from scientistcloud.layout import DataFolder
    from scientistcloud.storage.local import LocalForms

    uuid = "11111111-1111-4111-8111-111111111111"
    forms = LocalForms(DataFolder(tmp_path))
    for token in (1, 2):
        output = forms.begin(uuid, job_id=f"job {token}", token=token)
        assert output is not None
        (output / "form").write_text("…")
        form = {"sensor": "TIFF", "options": {"levels": token}, "window": {"min": 0}}
        forms.publish(uuid, job_id=f"job {token}", token=token, names=["form"], outcome={"form": form})

    lines = [json.loads(line) for line in DataFolder(tmp_path).dataset(uuid).recipes.read_text().splitlines()]

    assert [(line["token"], line["job_id"], line["options"]) for line in lines] == [
        (1, "job 1", {"levels": 1}), (2, "job 2", {"levels": 2}),
    ]  # fmt: skip
    assert "window" not in lines[0]


def test_progress_tells_bytes_rate_and_time_left() -> None:
    now = 0.0
    said: list[tuple[float, str]] = []
    progress = Progress(
        total_bytes=4 << 30, report=lambda share, step: said.append((share, step)), step="writing image",
        clock=lambda: now,
    )  # fmt: skip
    for second in range(5):
        now = float(second)
        progress.done_bytes = second * (256 << 20)
        progress.tell()

    assert said[0][1] == "writing image: 0.0 of 4.0 GiB"
    assert said[-1][1] == "writing image: 1.0 of 4.0 GiB, 256 MiB/s, 12 s left"
    progress.done_bytes += 10 << 20  # the disk becomes slow
    now += 10
    progress.tell()
    assert "256 MiB/s" not in said[-1][1]
    assert [time_in_words(each) for each in (0.2, 89, 150, 12_000)] == ["1 s", "89 s", "2 min", "3 h 20 min"]


def test_what_was_registered_in_place_is_done_again_from_there(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_site(tmp_path / "data") as site:
        uuid = converted(site, source)
        shutil.rmtree(site.settings.folder.dataset(uuid).source)
        before = site.store.datasets.get(uuid)
        assert before is not None
        site.store.datasets.update(before, replace(before, place=str(source / "stack.tif")))
    command = ["reproduce", uuid, "--data-dir", str(tmp_path / "data")]

    foreign = CliRunner().invoke(group, command)
    monkeypatch.setenv("SCIENTISTCLOUD_REGISTER_ROOTS", str(source))
    good = CliRunner().invoke(group, command)
    (source / "stack.tif").rename(source / "other.tif")
    gone = CliRunner().invoke(group, command)

    assert good.exit_code == 0, good.output
    assert "the same in all of" in good.output
    assert [(type(each.exception), each.exit_code) for each in (foreign, gone)] == [
        (UnsafeSource, 1), (UnreadableSource, 1),
    ]  # fmt: skip


def test_an_idx_is_done_again_and_what_is_damaged_is_named(tmp_path: Path) -> None:
    needed()
    values = np.arange(70 * 90, dtype="u2").reshape(70, 90)
    with running_site(tmp_path / "data") as site:
        uuid = site.add_dataset("idx")
        folder = site.settings.folder.dataset(uuid)
        folder.source.mkdir(parents=True)
        tifffile.imwrite(folder.source / "plane.tif", values)
        form = convert(folder.source, folder.root / "converted.idx", form="idx")
        before = site.store.datasets.get(uuid)
        assert before is not None
        site.store.datasets.update(before, replace(before, forms=({**form, "token": 1, "job_id": "gone"},)))
    command = ["reproduce", uuid, "--data-dir", str(tmp_path / "data")]

    good = CliRunner().invoke(group, command)
    (block,) = (path for path in (folder.root / "converted").rglob("*") if path.is_file())
    damaged = bytearray(block.read_bytes())
    damaged[-1] ^= 1
    block.write_bytes(damaged)
    other = CliRunner().invoke(group, command)

    assert good.exit_code == 0, good.output
    assert "the same in all of 2 files" in good.output
    assert other.exit_code == 1
    assert f"{block.relative_to(folder.root)} differs" in other.output
    assert sorted(path.name for path in folder.root.iterdir()) == ["converted", "converted.idx", "source"]
