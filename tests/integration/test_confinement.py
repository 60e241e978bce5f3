"""The process that reads sees its data set and nothing else: proved by one that tries."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from requirements import unavailable
from scientistcloud.layout import CONVERTED, PREVIEW
from scientistcloud.tasks.confinement import landlock_version

HOSTILE = """
import json, os, signal, socket, subprocess, sys, threading
from pathlib import Path
from scientistcloud.tasks.confinement import confine

source, output, outside = map(Path, sys.argv[1:4])
port, parent = map(int, sys.argv[4:])
sys.path.append(str(outside.parent))  # as where the process was started in the data folder
confined = confine(read=[source], write=output)
done = {"confined": confined}

def attempt(name, what):
    try:
        what()
        done[name] = True
    except OSError as refused:
        done[name] = False

def connect():
    socket.create_connection(("127.0.0.1", port), 5).close()

def thread():
    thread = threading.Thread(target=lambda: attempt("reads outside in a thread", (outside / "secret").read_bytes))
    thread.start()
    thread.join()

def in_child():
    code = f"open({str(outside / 'secret')!r}).read()"
    if subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode:
        raise PermissionError

attempt("reads its source", (source / "data").read_bytes)
attempt("writes its output", lambda: (output / "made").write_text("x"))
attempt("makes a folder", (output / "folder").mkdir)
attempt("moves within its output", lambda: (output / "made").rename(output / "folder" / "made"))
attempt("reads outside", (outside / "secret").read_bytes)
attempt("reads outside by a link", (source / "link").read_bytes)
attempt("lists outside", lambda: list(outside.iterdir()))
attempt("writes outside", lambda: (outside / "new").write_text("x"))
attempt("truncates outside", lambda: os.truncate(outside / "secret", 0))
attempt("removes outside", (outside / "secret").unlink)
attempt("writes its source", lambda: (source / "data").write_text("x"))
attempt("moves outside", lambda: (output / "folder").rename(outside / "folder"))
attempt("reads other processes", Path(f"/proc/{parent}/environ").read_bytes)
attempt("reads passwords", Path("/etc/passwd").read_bytes)
attempt("connects", connect)
attempt("reads outside in a process", in_child)
thread()
print(json.dumps(done))
"""


@pytest.fixture
def landlock() -> int:
    version = landlock_version()
    if not version:
        unavailable("Landlock", "Linux 5.19 or newer, with landlock among its security modules")
    return version


def test_a_reader_that_tries_reaches_nothing_else(landlock: int, tmp_path: Path) -> None:
    source, output, outside = (tmp_path / name for name in ("source", "output", "outside"))
    for folder in (source, output, outside):
        folder.mkdir()
    (source / "data").write_text("data")
    (outside / "secret").write_text("swordfish")
    (source / "link").symlink_to(outside / "secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [str(source), str(output), str(outside), str(server.getsockname()[1]), str(os.getpid())]
        run = subprocess.run(
            [sys.executable, "-c", HOSTILE, *arguments], capture_output=True, text=True, check=True, timeout=120
        )
    done = json.loads(run.stdout)

    may = {"confined", "reads its source", "writes its output", "makes a folder", "moves within its output"}
    may |= {"connects"} if landlock < 4 else set()
    assert {name for name, was in done.items() if was} == may
    assert (outside / "secret").read_text() == "swordfish"
    assert (source / "data").read_text() == "data"


CONVERT = """
import json, os, sys
from pathlib import Path
from scientistcloud.tasks.contract import Work
from scientistcloud.tasks.conversion import ConversionTask

source, output, outside = map(Path, sys.argv[1:])
work = Work(job_id="j", dataset_uuid="u", job_type="dataset_conversion", token=1, parameters={}, source=source,
            output=output, memory_bytes=512 << 20, file_bytes=1 << 40, report=lambda share, step: None)
outcome = ConversionTask().run(work)
try:
    outside.read_bytes()
except PermissionError:
    print(json.dumps(list(outcome.publish)))
"""


def test_a_conversion_runs_shut_in(landlock: int, data: Path, tmp_path: Path) -> None:
    """With each reader and its libraries; afterwards the process proves that it was."""
    (tmp_path / "secret").write_text("swordfish")
    values = np.random.default_rng(1).integers(0, 999, (20, 300, 300)).astype("u2")
    (tmp_path / "deflate").mkdir()
    tifffile.imwrite(tmp_path / "deflate" / "a.tif", values, photometric="minisblack", compression="zlib")
    sources = [tmp_path / "deflate", data / "netcdf" / "eraint_uvz.nc", data / "nexus" / "savu_i18.nxs"]
    sources += [data / "drone" / "overlap_berlin_01.jpg", data / "idx3d"]
    for number, source in enumerate(sources):
        output = tmp_path / f"output{number}"
        output.mkdir()
        command = [
            sys.executable,
            "-c",
            CONVERT,
            str(source),
            str(output),
            str(tmp_path / "secret"),
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert run.returncode == 0, (source, run.stderr[-2000:])
        assert json.loads(run.stdout) == [CONVERTED, PREVIEW], source
        assert (output / CONVERTED / "zarr.json").is_file()
