"""``scientistcloud convert``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from scientistcloud.cli import main


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scientistcloud", "convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    values = (np.arange(600 * 700) % 251).astype("u1").reshape(600, 700)
    tifffile.imwrite(tmp_path / "cells.tif", values)
    return tmp_path / "cells.tif"


def test_json_is_the_form_and_nothing_else_is_printed(picture: Path, tmp_path: Path) -> None:
    done = run(picture, tmp_path / "a.ome.zarr", "--json", "--preview", tmp_path / "a.webp")

    form = json.loads(done.stdout)
    assert done.returncode == 0
    assert done.stderr == ""
    assert {
        "sensor", "variable", "source_array", "axes", "shape", "dtype", "levels", "chunk", "shard", "codec",
        "reduction", "window", "histogram", "images", "size_bytes", "files", "reader", "warnings", "transposed",
        "preview", "seconds",
    } <= form.keys()  # fmt: skip
    assert [level["shape"] for level in form["levels"]] == [[600, 700], [300, 350], [150, 175]]
    assert [level["factors"] for level in form["levels"]] == [[1, 1], [2, 2], [4, 4]]
    assert (form["sensor"], form["shape"], form["dtype"]) == ("TIFF", [600, 700], "uint8")
    assert {"name", "kind", "length", "spacing", "unit"} <= form["axes"][0].keys()
    stored = [path for path in (tmp_path / "a.ome.zarr").rglob("*") if path.is_file()]
    assert form["files"] == len(stored)
    assert form["size_bytes"] == sum(path.stat().st_size for path in stored)
    assert (tmp_path / "a.webp").exists()


def test_the_summary_is_for_people(picture: Path, tmp_path: Path) -> None:
    done = run(picture, tmp_path / "a.ome.zarr", "--levels", 2, "--reduce", "maximum", "--codec", "zstd")

    assert done.returncode == 0
    assert "TIFF, image from" in done.stdout
    assert "600×700 → 300×350 (maximum)" in done.stdout
    assert "blosc zstd" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["cells.tif", "cells.tif"], 2, "cells.tif exists already; name another output"),
        (["gone.tif", "a"], 2, "gone.tif"),
        (["text.tif", "a"], 1, "text.tif"),
        (["empty.tif", "a"], 1, "empty.tif"),
        (["cells.tif", "a", "--spacing", "z:2"], 2, "write z=2.5"),
        (["cells.tif", "a", "--format", "idx"], 2, "idx"),
        (["cells.tif", "a", "--sensor", "NETCDF"], 1, "NETCDF"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_status(
    arguments: list[str],
    status: int,
    message: str,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(picture.parent)
    (picture.parent / "text.tif").write_text("this is no image")
    (picture.parent / "empty.tif").touch()
    before = sorted(picture.parent.iterdir())

    monkeypatch.setattr(sys, "argv", ["scientistcloud", "convert", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()

    told = capsys.readouterr()
    assert ended.value.code == status
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert message in told.err
    assert sorted(picture.parent.iterdir()) == before


# A library in C that does not come back, and lets no other thread of Python run meanwhile.
HANGING = """
import ctypes, sys
from scientistcloud.converters import registry
from scientistcloud.cli import main
from scientistcloud.tasks import conversion

def open_source(path, **more):
    conversion._make(more["options"].scratch / "half")
    print("hangs", flush=True)
    while True:
        ctypes.PyDLL(None).sleep(1000)

registry.open_source = open_source
main()
"""


def hanging(picture: Path, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HANGING, "convert", str(picture), str(tmp_path / "a.ome.zarr"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_library_that_does_not_come_back_is_ended(picture: Path, tmp_path: Path) -> None:
    with hanging(picture, tmp_path, "--stall", "5") as process:
        _, said = process.communicate(timeout=200)

    assert process.returncode == -signal.SIGKILL
    assert "cells.tif: nothing was read for 5 s" in said
    assert "damaged" in said
    assert list(tmp_path.iterdir()) == [picture]


def test_who_kills_a_conversion_finds_nothing_of_it(picture: Path, tmp_path: Path) -> None:
    with hanging(picture, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        began = sorted(path.name for path in tmp_path.iterdir())
        process.kill()
        process.communicate(timeout=200)  # the watchman holds standard error until it is through

    assert began == [f".a.ome.zarr.{process.pid}.partial", "cells.tif"]
    assert list(tmp_path.iterdir()) == [picture]
