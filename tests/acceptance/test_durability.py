"""What is acknowledged is on the disk: looked up in the system calls of an upload, of jobs and of a publication.

A file's bytes are durable once it was synced after its last write, a name once its folder was synced after the
rename that gave it. Nothing is said before both.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import intake_site
import pytest
from intake_site import BYTES, TUS

from requirements import unavailable
from scientistcloud import open_store
from scientistcloud.uploads.metadata import encode

CALLS = (
    "write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,syncfs,rename,renameat,renameat2,sendto,sendmsg,openat"
)


@dataclass(frozen=True)
class Call:
    """One system call that succeeded."""

    at: int
    name: str
    #: As strace prints them, paths of descriptors included.
    arguments: str

    @property
    def path(self) -> str:
        """Of its (first) descriptor."""
        found = re.match(r"\d+<([^>]*)>", self.arguments)
        return found[1] if found else ""


class Trace:
    def __init__(self, file: Path) -> None:
        self.calls: list[Call] = []
        deadline = time.monotonic() + 60
        while not re.search(r"\+\+\+ (exited|killed)[^\n]*\n\Z", file.read_text(errors="replace")):
            assert time.monotonic() < deadline, "strace did not come to its end"
            time.sleep(0.05)
        begun: dict[str, str] = {}
        for line in file.read_text(errors="replace").splitlines():
            process, _, text = line.partition(" ")
            text = text.strip()
            if text.endswith("<unfinished ...>"):
                begun[process] = text.removesuffix("<unfinished ...>")
                continue
            if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", text):
                text = begun.pop(process, "") + resumed[1]
            found = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)", text)
            if found and int(found[3]) >= 0:
                self.calls.append(Call(len(self.calls), found[1], found[2]))

    def find(self, name: str, *parts: str, after: int = 0) -> Call:
        """The first such call. Fails where there is none."""
        for call in self.calls[after:]:
            if re.fullmatch(name, call.name) and all(part in call.arguments for part in parts):
                return call
        raise AssertionError(f"no {name} with {parts} after call {after}")

    def all(self, name: str, *parts: str, after: int = 0, before: int | None = None) -> list[Call]:
        return [
            call
            for call in self.calls[after:before]
            if re.fullmatch(name, call.name) and all(part in call.arguments for part in parts)
        ]

    def assert_synced(self, path: str, *, before: Call, after: int = 0) -> None:
        """The last write to a file (a path's end) was followed by its sync, before something was said."""
        writes = [call for call in self.all(WRITE, after=after, before=before.at) if call.path.endswith(path)]
        assert writes, f"nothing was written to {path}"
        syncs = [call for call in self.all(SYNC, after=writes[-1].at, before=before.at) if call.path.endswith(path)]
        assert syncs, f"{path} was acknowledged before it was synced"

    def assert_folder_synced(self, rename: Call, folder: str, *, before: Call) -> None:
        """The folder that a rename went into was synced after it, before something was said."""
        assert rename.at < before.at
        syncs = [call for call in self.all(SYNC, after=rename.at, before=before.at) if call.path.endswith(folder)]
        assert syncs, f"the name in {folder} was acknowledged before it was durable"


SYNCS = "fsync,fdatasync"
WRITE, SYNC, RENAME = "p?writev?2?(64)?", "f(data)?sync|syncfs", "rename(at2?)?"


#: Runs the named program: its calls, and where it said that it began and that it was done.
Program = Callable[[str], tuple[Trace, Call, Call]]


@pytest.fixture(scope="module")
def strace() -> str:
    found = shutil.which("strace")
    if not found:
        unavailable("strace", "apt-get install strace")
    tried = subprocess.run([found, "-f", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"processes cannot be traced here: {tried.stderr.decode(errors='replace')[:200]}")
    return found


def traced(strace: str, folder: Path, *command: str) -> list[str]:
    # -D: what is traced stays our own child, so that stopping it does not stop strace instead.
    return [strace, "-D", "-f", "-y", "-s", "60", "-e", f"trace={CALLS}", "-o", str(folder / "calls"), *command]


def test_an_upload_is_on_the_disk_before_it_is_acknowledged(strace: str, tmp_path: Path) -> None:
    portal = intake_site.Portal(tmp_path / "data", {"SCIENTISTCLOUD_DISK_RESERVE_BYTES": "0"})
    portal.start(before=traced(strace, tmp_path))
    content = b"x" * (5 * 2**20)
    try:
        with httpx.Client(base_url=portal.url, timeout=120) as client:
            opened = client.post(
                "/api/uploads/",
                headers=TUS
                | {"Upload-Length": str(len(content)), "Upload-Metadata": encode({"filename": "scan.tif"})},
            )
            place, uuid = opened.headers["Location"], opened.headers["Dataset-UUID"]
            half = len(content) // 2
            for start, stop in ((0, half), (half, len(content))):
                answer = client.patch(
                    place, headers=BYTES | {"Upload-Offset": str(start)}, content=content[start:stop]
                )
                assert answer.status_code == 204
    finally:
        portal.stop()
    trace, upload = Trace(tmp_path / "calls"), f"uploads/{place.rpartition('/')[2]}"
    answers = "write|writev|sendto|sendmsg"
    created = trace.find(answers, "HTTP/1.1 201 Created")
    first = trace.find(answers, "HTTP/1.1 204 No Content", after=created.at)
    last = trace.find(answers, "HTTP/1.1 204 No Content", after=first.at + 1)

    # Opened: its folder's name and the data set's record.
    made = trace.find(RENAME, f'.new-{place.rpartition("/")[2]}"')
    trace.assert_folder_synced(made, "data/uploads", before=created)
    trace.assert_synced("scientistcloud.db-wal", before=created, after=made.at)
    # Half of it: the bytes, then the offset that promises them, then its name.
    trace.assert_synced(f"{upload}/data", before=first)
    bytes_synced = trace.find(SYNC, f"{upload}/data>")
    offset = trace.find(RENAME, f'{upload}/info.json"', after=created.at)
    assert bytes_synced.at < offset.at
    trace.assert_folder_synced(offset, upload, before=first)
    # Whole: in its place, recorded, its job created.
    placed = trace.find(RENAME, f'{upload}/data"', f'{uuid}/source/scan.tif"')
    assert trace.all(SYNC, f"{upload}/data>", after=first.at, before=placed.at)
    trace.assert_folder_synced(placed, f"{uuid}/source", before=last)
    trace.assert_synced("scientistcloud.db-wal", before=last, after=placed.at)


@pytest.fixture
def program(strace: str, tmp_path: Path) -> Program:
    def run(name: str) -> tuple[Trace, Call, Call]:
        file = Path(intake_site.__file__).with_name("durability_programs.py")
        subprocess.run(traced(strace, tmp_path, sys.executable, str(file), name, str(tmp_path)), check=True)
        trace = Trace(tmp_path / "calls")
        return trace, trace.find("write", "BEGIN"), trace.find("write", "DONE")

    return run


@pytest.mark.parametrize("name", ["create_job", "complete_job"])
def test_a_change_of_the_queue_is_on_the_disk_before_it_is_acknowledged(program: Program, name: str) -> None:
    trace, began, done = program(name)

    trace.assert_synced("scientistcloud.db-wal", before=done, after=began.at)


def test_writers_go_on_while_the_log_is_brought_into_a_database_whose_disk_stalls(
    strace: str, tmp_path: Path
) -> None:
    file = Path(intake_site.__file__).with_name("durability_programs.py")
    # Made beforehand, so that of all calls the checkpoints' alone meet the delay.
    open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}").close()
    slow = ["-P", str(tmp_path / "scientistcloud.db"), "-e", f"inject={SYNCS}:delay_enter=20s"]
    command = [strace, "-f", "--seccomp-bpf", "-e", f"trace={SYNCS}", *slow, "-o", str(tmp_path / "calls")]

    with subprocess.Popen(
        [*command, sys.executable, str(file), "create_two_at_a_time", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        said = program.stdout.readline()
        os.killpg(program.pid, signal.SIGKILL)  # the checkpoint still waits
        complaint = program.stderr.read()

    assert said == "DONE\n", complaint[-2000:]
    assert "sync(" in (tmp_path / "calls").read_text(), "no checkpoint was begun"


def test_a_form_is_on_the_disk_before_it_appears_and_its_name_before_it_is_acknowledged(program: Program) -> None:
    trace, began, done = program("publish")
    shown = trace.find(RENAME, 'partial.1/converted.ome.zarr"', '/converted.ome.zarr"', after=began.at)
    preview = trace.find(RENAME, 'partial.1/preview.webp"', '/preview.webp"', after=began.at)

    for path in ("converted.ome.zarr/zarr.json", "converted.ome.zarr/0/chunk", "partial.1/preview.webp"):
        trace.assert_synced(path, before=min(shown, preview, key=lambda call: call.at), after=began.at)
    for folder in ("converted.ome.zarr/0", "partial.1/converted.ome.zarr"):
        assert [c for c in trace.all(SYNC, after=began.at, before=shown.at) if c.path.endswith(folder)], folder
    for rename in (shown, preview):
        trace.assert_folder_synced(rename, "datasets/11111111-1111-4111-8111-111111111111", before=done)


def test_the_trace_tells_what_was_not_synced(tmp_path: Path) -> None:
    """That these tests can fail."""
    lines = (
        '1 write(3</d/a>, "x", 1) = 1',
        '1 rename("/d/a.new", "/d/a") = 0',
        '1 write(1<pipe:[1]>, "DONE", 4) = 4',
    )
    (tmp_path / "calls").write_text("\n".join((*lines, "1 +++ exited with 0 +++\n")))
    trace = Trace(tmp_path / "calls")
    done = trace.find("write", "DONE")

    with pytest.raises(AssertionError, match="before it was synced"):
        trace.assert_synced("/d/a", before=done)
    with pytest.raises(AssertionError, match="before it was durable"):
        trace.assert_folder_synced(trace.find(RENAME), "/d", before=done)
