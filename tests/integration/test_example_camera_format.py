"""The example of a format of one's own: a package beside ScientistCloud, found by its entry point."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import zarr

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "camera_format"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that has the package, with the metadata that an installer makes of it."""
    place = tmp_path_factory.mktemp("site-packages")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    (place / "mylab_camera.py").write_text((EXAMPLE / "mylab_camera.py").read_text())
    info = place / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = [
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for name, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return {**os.environ, "PYTHONPATH": str(place)}


def run(*arguments: str, env: dict[str, str]) -> str:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=120).stdout


def test_it_is_found_and_converts_a_recording(installed: dict[str, str], tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 4096, (3, 20, 30), np.uint16)
    head = b"MYLABCAM" + np.array([3, 20, 30], "<u4").tobytes() + np.array([0.5], "<f4").tobytes() + bytes(8)
    (tmp_path / "one.cam").write_bytes(head + values.tobytes())

    listed = run("scientistcloud", "sensors", env=installed)
    said = run("scientistcloud", "inspect", str(tmp_path / "one.cam"), env=installed)
    run("scientistcloud", "convert", str(tmp_path / "one.cam"), str(tmp_path / "one.ome.zarr"), env=installed)

    assert re.search(r"^MYLAB CAMERA +recordings of our camera \(mylab_camera\)$", listed, re.MULTILINE)
    assert "t 3 (time) · y 20 every 0.5 micrometer · x 30 every 0.5 micrometer" in said
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "one.ome.zarr", mode="r")["0/image"][...], values)


def test_it_passes_the_contract_that_ships(installed: dict[str, str]) -> None:
    options = ["-q", "--numprocesses=0", "-p", "no:cacheprovider", "-c", str(EXAMPLE / "pyproject.toml")]

    said = run("pytest", *options, str(EXAMPLE), env=installed)

    assert re.search(r"\d\d passed", said)


def test_it_is_as_short_as_is_said() -> None:
    assert len((EXAMPLE / "mylab_camera.py").read_text().splitlines()) < 60


def lines(program: str) -> str:
    """Without indentation and blank lines, which the formatter sees differently in a page."""
    return "\n".join(line.strip() for line in program.splitlines() if line.strip())


def test_the_walk_through_shows_the_example_as_it_is() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    shown = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    program = lines((EXAMPLE / "mylab_camera.py").read_text())

    assert len(shown) >= 2
    for part in shown:
        assert lines(part) in program, part
    assert 'mylab_camera = "mylab_camera:CameraConverter"' in text
