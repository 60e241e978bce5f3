"""How long does a TIFF of 512 MiB take to become OME-Zarr, here and with others?

Whole processes, one after the other, in rounds, so that all of them meet the same machine: median wall time, CPU
time and peak memory of each. The file is 256 x 1024 x 1024 uint16 with camera noise; it compresses about 1.4 to 1.
The peers are installed into throw-away environments beside the file. Each writes five levels, or what it writes
by itself; the table says how much and in how many files.

    python benchmarks/conversion.py [--rounds 3] [--depth 256] [--only ours,ome-zarr-py] [--folder DIR]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

HERE = Path(__file__).resolve()
MIB = 1 << 20

# What each peer runs: argv 1 is the TIFF, argv 2 the store. As its own documentation shows it; with dask, because
# without it the whole file would be in memory.
OME_ZARR_PY = """
import sys, dask.array, tifffile, zarr
from ome_zarr.writer import write_image
source = dask.array.from_zarr(zarr.open(tifffile.imread(sys.argv[1], aszarr=True), mode="r"))
source = source.rechunk((64, 1024, 1024))
write_image(source, zarr.open_group(sys.argv[2], mode="w"), axes="zyx", storage_options={"chunks": (64, 64, 64)})
"""
OME_ZARR_PY_LIKE_US = """
import sys, dask.array, tifffile, zarr
from ome_zarr.writer import write_image
source = dask.array.from_zarr(zarr.open(tifffile.imread(sys.argv[1], aszarr=True), mode="r"))
source = source.rechunk((64, 512, 512))
codec = zarr.codecs.BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle")
options = {"chunks": (64, 64, 64), "shards": (64, 512, 512), "compressors": [codec]}
write_image(source, zarr.open_group(sys.argv[2], mode="w"), axes="zyx", storage_options=[options] + [
    {"chunks": (64, 64, 64), "compressors": [codec]}] * 4)
"""
NGFF_ZARR = """
import sys
from ngff_zarr.cli import main
sys.argv = ["ngff-zarr", "-i", sys.argv[1], "-o", sys.argv[2], "-m", "dask_bin_shrink", "-d", "z", "y", "x", "-q"]
main()
"""


@dataclass(frozen=True)
class Tool:
    """One way to convert."""

    name: str
    #: What to install; () for ourselves.
    packages: tuple[str, ...]
    program: str
    note: str = ""


TOOLS = (
    Tool("ours", (), "import sys\nfrom scientistcloud.cli import main\nsys.argv[1:1] = ['convert']\nmain()"),
    Tool(
        "ome-zarr-py",
        ("ome-zarr", "dask", "tifffile", "imagecodecs"),
        OME_ZARR_PY,
        "dask, as documented, 64³ chunks",
    ),
    Tool(
        "ome-zarr-py, our codec",
        ("ome-zarr", "dask", "tifffile", "imagecodecs"),
        OME_ZARR_PY_LIKE_US,
        "lz4, shards",
    ),
    Tool("ngff-zarr", ("ngff-zarr[cli,tifffile]", "imagecodecs"), NGFF_ZARR, "bin shrink: its fastest way"),
)


@dataclass(frozen=True)
class Run:
    """One process."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    written_mib: float
    files: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--depth", type=int, default=256, help="planes of 2 MiB")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--folder", type=Path, help="kept, so that a second run is quicker")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="conversion-"))
    folder.mkdir(exist_ok=True)
    try:
        compare(folder, given.depth, given.rounds, [name for name in given.only.split(",") if name])
    finally:
        if not given.folder:
            shutil.rmtree(folder)


def compare(folder: Path, depth: int, rounds: int, only: list[str]) -> None:
    source = folder / f"noise_{depth}.tif"
    if not source.exists():
        make_source(source, depth)
    tools = [tool for tool in TOOLS if not only or tool.name in only]
    pythons = {tool.name: environment(folder, tool) for tool in tools}
    runs: dict[str, list[Run]] = {tool.name: [] for tool in tools}
    with source.open("rb") as file:  # into the page cache, for the first as for the last
        while file.read(MIB):
            pass
    load = os.getloadavg()[0]
    for _ in range(rounds):
        for tool in tools:
            python = pythons[tool.name]
            if isinstance(python, Path):
                run = measured(python, tool, source, folder / "out.ome.zarr")
                if isinstance(run, Run):
                    runs[tool.name].append(run)
                else:
                    pythons[tool.name] = run
    print(f"\n{depth} x 1024 x 1024 uint16, {depth * 2} MiB; {os.cpu_count()} cores, median of {rounds}\n")
    print("| tool | wall s | CPU s | peak MiB | out MiB, files | |\n| --- | --- | --- | --- | --- | --- |")
    for tool in tools:
        print(row(tool, pythons[tool.name], runs[tool.name]))
    print(
        f"\nLimits: warm page cache; load of the machine before the first run: {load:.1f}; what peers leave out (a"
    )
    print("preview, statistics, SHA-256 of the source, syncing to the disk) is in our time and not in theirs.")


def row(tool: Tool, python: Path | str, runs: list[Run]) -> str:
    if not runs:
        return f"| {tool.name} | – | – | – | – | {python} |"

    def median(name: str) -> float:
        return statistics.median(getattr(run, name) for run in runs)

    return (
        f"| {tool.name} {version(tool, python)} | {median('wall_seconds'):.1f} | {median('cpu_seconds'):.1f} "
        f"| {median('peak_mib'):.0f} | {median('written_mib'):.0f}, {median('files'):.0f} | {tool.note} |"
    )


def make_source(path: Path, depth: int) -> None:
    """Smooth structures under the noise of a 16-bit camera, page by page."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[0:1024, 0:1024].astype("f4")
    shapes = [1000 + 600 * np.sin(x / (40 + 7 * i)) * np.cos(y / (33 + 5 * i)) for i in range(4)]

    def planes() -> Iterator[np.ndarray[Any, Any]]:
        for z in range(depth):
            noise = random.standard_normal((1024, 1024), dtype="f4") * 260 + 1500
            yield (shapes[z % 4] + 200 * np.sin(z / 9) + noise).astype("u2")

    kind = {"shape": (depth, 1024, 1024), "dtype": "u2", "photometric": "minisblack", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(path, planes(), bigtiff=True, **kind)


def environment(folder: Path, tool: Tool) -> Path | str:
    """The interpreter that has the tool, or why there is none."""
    if not tool.packages:
        return Path(sys.executable)
    home = folder / ("venv-" + tool.name.split(",")[0])
    python = home / "bin" / "python"
    if not python.exists():
        installer = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        commands = [
            [sys.executable, "-m", "venv", str(home)],
            [str(python), "-m", "pip", "install", "-q", *tool.packages],
        ]
        if Path(installer).exists():
            commands[1] = [installer, "pip", "install", "-q", "--python", str(python), *tool.packages]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(home, ignore_errors=True)
                return f"not installed: {done.stderr.strip().splitlines()[-1][:100]}"
    return python


def version(tool: Tool, python: Path | str) -> str:
    if not tool.packages:
        return importlib.metadata.version("scientistcloud")
    name = tool.packages[0].split("[")[0]
    code = f"import importlib.metadata as m; print(m.version('{name}'))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def measured(python: Path, tool: Tool, source: Path, store: Path) -> Run | str:
    """One run, or the last line of what it complained of."""
    shutil.rmtree(store, ignore_errors=True)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(python), "-c", tool.program, str(source), str(store)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=variables, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        return "failed: " + (complaint.strip().splitlines() or ["no word"])[-1][:150]
    files = [path for path in store.rglob("*") if path.is_file()]
    written = sum(path.stat().st_size for path in files) / MIB
    shutil.rmtree(store)
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, written, len(files))


if __name__ == "__main__":
    main()
