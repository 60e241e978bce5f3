"""`scientistcloud serve` as people and service managers run it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

PATIENCE = 90.0


@contextlib.contextmanager
def serving(data_dir: Path, *options: str, workers: int = 0) -> Iterator[subprocess.Popen[str]]:
    """The command on `data_dir`, once it says that it serves; killed at the end if it still runs."""
    process = start(data_dir, *options, workers=workers)
    try:
        until(lambda: (data_dir / "portal.json").exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def start(data_dir: Path, *options: str, workers: int = 0) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "scientistcloud",
        "serve",
        "--data-dir",
        str(data_dir),
        "--workers",
        str(workers),
    ]
    options = options or ("--port", "0")
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that still run."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += [int(each) for each in (task / "children").read_text().split()]
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_cleans_up_when_told_to_end(tmp_path: Path, end: signal.Signals) -> None:
    with serving(tmp_path) as process:
        kept = tmp_path / "portal.json"
        mode = stat.S_IMODE(kept.stat().st_mode)
        said = json.loads(kept.read_text())
        link = f"{said['address']}/?token={said['token']}"
        with httpx.Client() as client:
            ready = client.get(f"{said['address']}/readyz")
            logged_in = client.get(link)
        process.send_signal(end)
        output, errors = process.communicate(timeout=PATIENCE)

    assert mode == 0o600
    assert ready.json() == {"status": "ready"}
    assert logged_in.status_code == 303
    assert output.count(link) == 1
    assert said["token"] not in errors
    assert process.returncode == 0
    assert not kept.exists()


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = start(tmp_path, "--port", port)
        output, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 2
    assert output == ""
    assert errors == (
        f"scientistcloud: port {port} of 127.0.0.1 is taken; end what listens there, "
        "or take another with --port (0: any free one)\n"
    )
    assert not (tmp_path / "portal.json").exists()


def test_a_data_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    process = start(tmp_path / "file" / "data")
    _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 2
    assert len(errors.splitlines()) == 1
    assert "cannot be written to" in errors
    assert "--data-dir" in errors


def test_a_file_that_is_no_database_of_ours_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "scientistcloud.db").write_bytes(b"no database at all" * 100)
    process = start(tmp_path)
    _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "portal.json").exists()


def test_a_worker_that_dies_is_started_again_and_ends_with_the_portal(tmp_path: Path) -> None:
    with serving(tmp_path, workers=1) as process:
        until(lambda: children(process.pid))
        (first,) = children(process.pid)
        until(lambda: list((tmp_path / "workers").glob("*.lock")))
        os.kill(first, signal.SIGKILL)
        until(lambda: children(process.pid) not in ([], [first]))
        (second,) = children(process.pid)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)

    assert "the worker ended" in errors
    assert process.returncode == 0
    assert not runs(second)


def test_a_portal_that_is_killed_takes_its_worker_along(tmp_path: Path) -> None:
    with serving(tmp_path, workers=1) as process:
        until(lambda: children(process.pid))
        (worker,) = children(process.pid)
        # Until then it is the interpreter that starts, which has not yet asked to be told.
        until(lambda: list((tmp_path / "workers").glob("*.lock")))
        process.kill()
        until(lambda: not runs(worker))
        process.communicate()


def test_without_workers_nothing_runs_beside_it(tmp_path: Path) -> None:
    with serving(tmp_path, workers=0) as process:
        assert children(process.pid) == []
