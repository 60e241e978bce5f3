"""How long do files take to become OME-Zarr, here and with others?

Whole processes, one after the other, in rounds, so that all of them meet the same machine: median wall time, CPU
time and peak memory. The sources hold camera noise on smooth structures, 256 x 1024 x 1024 uint16 (512 MiB), which
compresses about 1.4 to 1: as TIFF (uncompressed, deflate, LZW), HDF5 (contiguous, gzip, chunks across the order in
which it is read, chunks of one value) and netCDF; a mosaic of JPEG tiles; a folder of 1,000 TIFFs. The peers run in
environments of their own beside the sources, as people use them and again with our codec and chunks. `limit` is
what reading the source, and compressing and writing as many values as all levels hold, costs with nothing else,
shared by all cores; `start-up` is our conversion of a picture of 16 x 16 pixels.

    python benchmarks/conversion.py [--quick] [--rounds 3] [--cases tiff,hdf5-gzip] [--no-peers] [--folder DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import tifffile

MIB = 1 << 20
PATIENCE_SECONDS = 240
OURS, LIMIT, START_UP = "ScientistCloud", "limit", "start-up"

# -- what each peer runs: argv 1 is the source, argv 2 the store ----------------------------------

OPEN_TIFF = """
import sys, dask.array, tifffile, zarr
source = dask.array.from_zarr(zarr.open(tifffile.imread(sys.argv[1], aszarr=True), mode="r"))
axes = "zyx" if source.shape[-1] > 4 else "yxc"
"""
OPEN_HDF5 = """
import sys, dask.array, h5py, zarr
values = h5py.File(sys.argv[1])["entry/data/data"]
source = dask.array.from_array(values, chunks=values.chunks or (1, 1024, 1024))
axes = "zyx"
"""
OPEN_FOLDER = """
import sys, dask.array, tifffile, zarr
from pathlib import Path
files = tifffile.TiffSequence(sorted(map(str, Path(sys.argv[1]).glob("*.tif"))))
source = dask.array.from_zarr(zarr.open(files.aszarr(), mode="r"))
axes = "zyx"
"""
# With dask, because without it the whole file would be in memory; as its documentation shows it.
OME_ZARR_PY = """
from ome_zarr.writer import write_image
if axes == "yxc":
    source, axes = source.transpose(2, 0, 1), "cyx"
chunks = (64, 64, 64) if axes == "zyx" else (3, 256, 256)
source = source.rechunk((64, 1024, 1024) if axes == "zyx" else (3, 2048, 2048))
write_image(source, zarr.open_group(sys.argv[2], mode="w"), axes=axes, storage_options={"chunks": chunks})
"""
OME_ZARR_PY_LIKE_US = """
from ome_zarr.writer import write_image
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
CONVERT = "import sys\nfrom scientistcloud.cli import main\nsys.argv[1:1] = ['convert']\nmain()"
# Each thread reads a block, compresses it as we do, and writes it; all of it is synced. The coarser levels of a
# volume are an eighth, a 64th … of level 0, a seventh in all: every seventh block is compressed and written again.
THE_LIMIT = """
import os, sys, imagecodecs, numpy as np
from concurrent.futures import ThreadPoolExecutor
source, out = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
block, size = 1 << 19, os.fstat(source).st_size
def one(k):
    values = np.frombuffer(os.pread(source, block, k * block), "u2")
    for place in [k * block] if k % 7 else [k * block, size + k // 7 * block]:
        made = imagecodecs.blosc_encode(values, level=1, compressor="lz4", shuffle="bitshuffle", numthreads=1)
        os.pwrite(out, made, place)
with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
    list(threads.map(one, range(size // block)))
os.fsync(out)
"""
# Starts the tool and measures it. A process of its own, for the kernel counts to a process what its parent held
# when it was started, and this program holds the sources that it makes.
LAUNCHER = """
import os, resource, signal, sys, time
started = time.perf_counter()
child = os.fork()
if not child:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.setsid()
    os.execv(sys.argv[2], sys.argv[2:])
def end(*_):
    print(f"ended after {sys.argv[1]} s", file=sys.stderr)
    os.killpg(child, signal.SIGKILL)
signal.signal(signal.SIGALRM, end)
signal.alarm(int(sys.argv[1]))
_, status, used = os.wait4(child, 0)
print(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(1 if status else 0)
"""
OME, NGFF = ("ome-zarr", "dask", "tifffile", "imagecodecs", "h5py"), ("ngff-zarr[cli,tifffile]", "imagecodecs")


@dataclass(frozen=True)
class Tool:
    """One way to convert."""

    name: str
    program: str
    #: What to install; () for what is here.
    packages: tuple[str, ...] = ()
    note: str = ""


def ours(note: str = "") -> Tool:
    return Tool(OURS, CONVERT, note=note)


def ome_zarr_py(opening: str) -> Tool:
    return Tool("ome-zarr-py", opening + OME_ZARR_PY, OME, "dask, as documented")


@dataclass(frozen=True)
class Case:
    """A source, and who converts it."""

    name: str
    title: str
    make: Callable[[Path, int], None]
    tools: tuple[Tool, ...]
    #: Its own number of planes; None: as many as were asked for.
    depth: int | None = None
    ending: str = ".tif"


# -- the sources -----------------------------------------------------------------------------------


def planes(depth: int, side: int = 1024) -> Iterator[np.ndarray[Any, Any]]:
    """Smooth structures under the noise of a 16-bit camera."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[0:side, 0:side].astype("f4")
    shapes = [1000 + 600 * np.sin(x / (40 + 7 * i)) * np.cos(y / (33 + 5 * i)) for i in range(4)]
    noise = random.standard_normal((8, side, side), dtype="f4") * 260 + 1500
    for z in range(depth):  # the same noise elsewhere: to draw it anew would take longer than to convert it
        yield (shapes[z % 4] + np.float32(200 * np.sin(z / 9)) + np.roll(noise[z % 8], 1009 * z)).astype("u2")


def tiff(**how: Any) -> Callable[[Path, int], None]:
    def make(path: Path, depth: int) -> None:
        kind: dict[str, Any] = {"shape": (depth, 1024, 1024), "dtype": "u2", "photometric": "minisblack"}
        tifffile.imwrite(path, planes(depth), bigtiff=True, metadata={"axes": "ZYX"}, **kind, **how)

    return make


def tiny(path: Path, depth: int) -> None:
    """Nothing to do: what a conversion costs before it begins and after it ended."""
    tifffile.imwrite(path, next(planes(depth, side=16)), photometric="minisblack")


def mosaic(path: Path, depth: int) -> None:
    """An RGB picture of JPEG tiles, as many values as `depth` planes have bytes."""
    side = int((depth * 2 * MIB / 3) ** 0.5) // 256 * 256
    y, x = np.mgrid[0:256, 0:256]
    random = np.random.default_rng(5)

    def tiles() -> Iterator[np.ndarray[Any, Any]]:
        for k in range((side // 256) ** 2):
            values = np.stack([x + k % 64, y, (x + y) // 2 + k % 32], axis=-1) // 2
            yield (values + random.integers(0, 24, values.shape)).astype("u1")

    kind: dict[str, Any] = {"shape": (side, side, 3), "dtype": "u1", "photometric": "rgb", "tile": (256, 256)}
    tifffile.imwrite(path, tiles(), bigtiff=True, compression="jpeg", compressionargs={"level": 90}, **kind)


def folder_of_tiffs(path: Path, depth: int) -> None:
    path.mkdir()
    for k, plane in enumerate(planes(4 * depth, side=512)):
        tifffile.imwrite(path / f"slice_{k:04}.tif", plane, photometric="minisblack")


def hdf5(chunks: tuple[int, ...] | None, **how: Any) -> Callable[[Path, int], None]:
    """A NeXus file."""

    def make(path: Path, depth: int) -> None:
        small = chunks == (1, 1, 1)
        shape = (depth, 16, 16) if small else (depth, 1024, 1024)
        with h5py.File(path, "w") as file:
            entry = file.create_group("entry")
            entry.attrs["NX_class"] = "NXentry"
            data = entry.create_group("data")
            data.attrs["NX_class"], data.attrs["signal"] = "NXdata", "data"
            fitting = tuple(min(c, n) for c, n in zip(chunks, shape, strict=True)) if chunks else None
            values = data.create_dataset("data", shape, "u2", chunks=fitting, **how)
            step = min(chunks[0] if chunks and not small else 16, depth)
            waiting: list[np.ndarray[Any, Any]] = []
            for z, plane in enumerate(planes(depth)):
                waiting.append(plane[: shape[1], : shape[2]])
                if len(waiting) == step or z == depth - 1:
                    values[z + 1 - len(waiting) : z + 1] = np.stack(waiting)
                    waiting.clear()

    return make


def netcdf(path: Path, depth: int) -> None:
    with netCDF4.Dataset(path, "w") as file:
        for name, length in zip("zyx", (depth, 1024, 1024), strict=True):
            file.createDimension(name, length)
        values = file.createVariable("field", "u2", tuple("zyx"), zlib=True, complevel=4, chunksizes=(16, 256, 256))
        for z, plane in enumerate(planes(depth)):
            values[z] = plane


LIMIT_TOOL = Tool(LIMIT, THE_LIMIT, note="read; compress (lz4) and write all levels' values; sync")
BOTH = (ours(), ome_zarr_py(OPEN_TIFF))
CASES = (
    Case(START_UP, "TIFF, 16 × 16", tiny, (ours(),)),
    Case(
        "tiff", "TIFF, uncompressed", tiff(),
        (
            LIMIT_TOOL, ours(), ome_zarr_py(OPEN_TIFF),
            Tool("ome-zarr-py, our codec", OPEN_TIFF + OME_ZARR_PY_LIKE_US, OME, "lz4, our chunks and shards"),
            Tool("ngff-zarr", NGFF_ZARR, NGFF, "bin shrink: its fastest way"),
        ),
    ),
    Case("tiff-deflate", "TIFF, deflate", tiff(compression="zlib", rowsperstrip=64), BOTH),
    Case("tiff-lzw", "TIFF, LZW", tiff(compression="lzw", rowsperstrip=64), BOTH),
    Case("tiff-jpeg", "RGB mosaic, JPEG tiles", mosaic, BOTH),
    Case("folder", "folder of small TIFFs", folder_of_tiffs, (ours(), ome_zarr_py(OPEN_FOLDER)), ending=""),
    Case("hdf5", "HDF5, contiguous", hdf5(None), (ours(), ome_zarr_py(OPEN_HDF5)), ending=".h5"),
    Case(
        "hdf5-gzip", "HDF5, gzip", hdf5((16, 256, 256), compression="gzip"),
        (ours("chunks 16 × 256 × 256"), ome_zarr_py(OPEN_HDF5)), ending=".h5",
    ),
    Case(
        "hdf5-bad", "HDF5, gzip, chunks across", hdf5((256, 16, 16), compression="gzip"),
        (ours("chunks 256 × 16 × 16"),), ending=".h5",
    ),
    Case(
        "hdf5-one", "HDF5, chunks of one value", hdf5((1, 1, 1)), (ours("256 chunks a plane, 16 × 16"),),
        ending=".h5",
    ),
    Case("netcdf", "netCDF, deflate", netcdf, (ours("chunks 16 × 256 × 256"),), ending=".nc"),
    *(
        Case(f"growth-{size}", "TIFF, uncompressed", tiff(), (ours(),), depth=size // 2)
        for size in (128, 2048, 8192)
    ),
)  # fmt: skip


# -- the runs --------------------------------------------------------------------------------------


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
    parser.add_argument("--quick", action="store_true", help="32 MiB, one round, no peers: does it work")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--depth", type=int, help="planes of 2 MiB; 256")
    parser.add_argument("--cases", default="", help=f"some of {', '.join(case.name for case in CASES)}")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--folder", type=Path, help="kept, so that a second run is quicker")
    given = parser.parse_args()
    depth = given.depth or (16 if given.quick else 256)
    wanted = [name for name in given.cases.split(",") if name]
    wanted += [START_UP] if "tiff" in wanted else []
    cases = [case for case in CASES if case.name in wanted or (not wanted and not (given.quick and case.depth))]
    folder = given.folder or Path(tempfile.mkdtemp(prefix="conversion-"))
    folder.mkdir(exist_ok=True)
    try:
        measure(
            folder, cases, depth=depth, rounds=given.rounds or (1 if given.quick else 3),
            peers=not (given.no_peers or given.quick),
        )  # fmt: skip
    finally:
        if not given.folder:
            shutil.rmtree(folder)


def measure(folder: Path, cases: list[Case], *, depth: int, rounds: int, peers: bool) -> None:
    """Make, convert and report each case; of what is large only one source lies there at a time."""
    load = os.getloadavg()[0]
    results: dict[tuple[str, str], Run] = {}
    rows = []
    for case in cases:
        tools = [tool for tool in case.tools if peers or not tool.packages]
        pythons = {tool.name: environment(folder, tool) for tool in tools}
        planes_ = case.depth or depth
        # Large ones are measured once: their time is long against what disturbs it.
        found, size_mib = converted(folder, case, planes_, tools, pythons, rounds if planes_ <= depth else 1)
        for tool in tools:
            runs = found[tool.name]
            if isinstance(runs, list) and runs:
                results[case.name, tool.name] = middle(runs)
            rows.append(row(case, tool, pythons[tool.name], results.get((case.name, tool.name)), runs, size_mib))
            print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    report(rows, results, depth=depth, rounds=rounds, load=load)


def converted(
    folder: Path, case: Case, depth: int, tools: list[Tool], pythons: dict[str, Path | str], rounds: int
) -> tuple[dict[str, list[Run] | str], float]:
    """Runs by tool, or why there are none; and how large the source is."""
    source = folder / f"{case.name}_{depth}{case.ending}"
    if not source.exists():
        case.make(source, depth)
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    size_mib = sum(path.stat().st_size for path in files) / MIB
    for path in files:  # into the page cache, for the first as for the last
        with path.open("rb") as file:
            while file.read(MIB):
                pass
    found: dict[str, list[Run] | str] = {tool.name: [] for tool in tools}
    for _ in range(rounds):
        for tool in tools:
            runs, python = found[tool.name], pythons[tool.name]
            if isinstance(runs, list) and isinstance(python, Path):
                run = measured(python, tool, source, folder / "out.ome.zarr")
                if isinstance(run, Run):
                    runs.append(run)
                elif not runs:
                    found[tool.name] = run
    if case.depth is not None:
        source.unlink()
    return found, size_mib


def measured(python: Path, tool: Tool, source: Path, store: Path) -> Run | str:
    """One run, or the last line of what it complained of."""
    remove(store)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, str(PATIENCE_SECONDS), str(python), "-c", tool.program, str(source),
         str(store)],
        capture_output=True, env=variables, text=True, check=False,
    )  # fmt: skip
    if process.returncode:
        remove(store)
        return "failed: " + (process.stderr.strip().splitlines() or ["no word"])[-1][:150].replace("|", "/")
    wall, cpu, peak = map(float, process.stdout.splitlines()[-1].split())
    files = [path for path in store.rglob("*") if path.is_file()] if store.is_dir() else [store]
    written = sum(path.stat().st_blocks * 512 if path == store else path.stat().st_size for path in files) / MIB
    remove(store)
    return Run(wall, cpu, peak / 1024, written, len(files))


def remove(store: Path) -> None:
    shutil.rmtree(store, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        store.unlink()


def environment(folder: Path, tool: Tool) -> Path | str:
    """The interpreter that has the tool, or why there is none."""
    if not tool.packages:
        return Path(sys.executable)
    home = folder / ("venv-" + tool.packages[0].split("[")[0])
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
                return f"not installed: {(done.stderr.strip().splitlines() or ['no word'])[-1][:100]}"
    return python


# -- what is printed -------------------------------------------------------------------------------


def middle(runs: list[Run]) -> Run:
    """The median of each figure."""
    return Run(*(statistics.median(getattr(run, name) for run in runs) for name in Run.__dataclass_fields__))


def row(case: Case, tool: Tool, python: Path | str, run: Run | None, runs: list[Run] | str, size_mib: float) -> str:
    source = f"{case.title} ({size_mib:.0f} MiB)"
    if run is None:
        why = python if isinstance(python, str) else runs if isinstance(runs, str) else "no run"
        return f"| {source} | {tool.name} | – | – | – | – | {why} |"
    return (
        f"| {source} | {tool.name}{version(tool, python)} | {run.wall_seconds:.2f} | {run.cpu_seconds:.2f} "
        f"| {run.peak_mib:.0f} | {run.written_mib:.0f}, {run.files:.0f} | {tool.note} |"
    )


def version(tool: Tool, python: Path | str) -> str:
    if tool.name == LIMIT:
        return ""
    if not tool.packages:
        return f" {importlib.metadata.version('scientistcloud')}"
    name = tool.packages[0].split("[")[0]
    code = f"import importlib.metadata as m; print(m.version('{name}'))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return f" {done.stdout.strip()}"


def report(rows: list[str], results: dict[tuple[str, str], Run], *, depth: int, rounds: int, load: float) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"
    print(f"\n{dt.datetime.now(dt.UTC).date()}; {machine}, Python {platform.python_version()};", end=" ")
    print(f"{depth} planes of 2 MiB, median of {rounds}; load at the start {load:.1f}\n")
    print("| source | tool | wall s | CPU s | peak MiB | out MiB, files | |\n" + "| --- " * 7 + "|")
    print("\n".join(rows))
    print()
    for line in aims(results):
        print(f"- {line}")
    print("\nLimits: a warm page cache. What peers leave out (statistics, SHA-256 of the source, a check of the")
    print("store, syncing to the disk) is in our time and not in theirs. Peers write the levels that they choose.")


def aims(results: dict[tuple[str, str], Run]) -> Iterator[str]:
    """What was aimed at, and what came of it."""
    mine = results.get(("tiff", OURS))
    if mine is None:
        return
    as_used = [
        run for (case, name), run in results.items() if case == "tiff" and name in ("ome-zarr-py", "ngff-zarr")
    ]
    if as_used:
        best = min(as_used, key=lambda run: run.wall_seconds)
        yield f"{best.wall_seconds / mine.wall_seconds:.1f} times as fast as the fastest peer as used (aim: 5)"
        yield f"with {mine.peak_mib / best.peak_mib:.2f} of its memory (aim: a third at most)"
    if (like_us := results.get(("tiff", "ome-zarr-py, our codec"))) is not None:
        yield f"{like_us.wall_seconds / mine.wall_seconds:.1f} times as fast as that with our codec (aim: 2.5)"
    if (limit := results.get(("tiff", LIMIT))) is not None:
        yield f"{mine.wall_seconds / limit.wall_seconds:.2f} times the machine's own limit"
        if (start := results.get((START_UP, OURS))) is not None:
            least = limit.wall_seconds + start.wall_seconds
            yield f"{mine.wall_seconds / least:.2f} times that limit and the start-up together (aim: 1.5)"
    if (gzip := results.get(("hdf5-gzip", OURS))) is not None:
        yield f"HDF5 with gzip takes {gzip.wall_seconds / mine.wall_seconds:.1f} times as long as TIFF (aim: 2)"
    grown = [(size, results.get((f"growth-{size}", OURS))) for size in (128, 2048, 8192)]
    if all(run for _, run in grown):
        told = ", ".join(
            f"{size} MiB: {run.wall_seconds * 1024 / size:.2f} s/GiB, {run.peak_mib:.0f} MiB"
            for size, run in grown
            if run
        )
        yield f"growth: {told} (aim: falling or flat, 300 MiB at most)"


if __name__ == "__main__":
    main()
