"""Lines that break, servers that are killed, disks that are full: no byte is lost and one job comes of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from intake_site import BEARER, BYTES, TOKEN, Portal, offset_of, opened, sent

from scientistcloud.client import Client


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """One for all, since it takes a while to start; whoever ends it starts it again."""
    portal = Portal(tmp_path_factory.mktemp("portal"), {"SCIENTISTCLOUD_DISK_RESERVE_BYTES": "0"})
    portal.start()
    yield portal
    portal.stop()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def cut_patch(portal: Portal, place: str, offset: int, content: bytes, *, cut_after: int, reset: bool) -> None:
    """Send the rest of `content` from `offset` on a line that breaks after so many bytes of it."""
    with socket.create_connection(("127.0.0.1", portal.port), timeout=60) as line:
        headers = BYTES | {"Upload-Offset": str(offset), "Content-Length": str(len(content) - offset)}
        text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        line.sendall(f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1:{portal.port}\r\n{text}\r\n".encode())
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # refused: an older line added bytes
            line.sendall(content[offset : offset + cut_after])
        if reset:  # the line is gone, and what lay in it
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def survives_cuts(portal: Portal, *, cuts: int, size: int, seed: int) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(size)
    with portal.client() as client:
        answer = opened(client, size)
        place, uuid = answer.headers["Location"], answer.headers["Dataset-UUID"]
        for _ in range(cuts):
            offset = offset_of(client, place)
            assert offset < size, "nothing was left to cut"
            # Most of each try is lost on purpose, so that the last cut still finds something to send.
            most = max(1, (size - offset) // 8)
            cut_patch(portal, place, offset, content, cut_after=chance.randrange(most), reset=chance.random() < 0.3)
        wait_for(lambda: _finishes(client, place, content))

    assert portal.source(uuid, "scan.tif") == content
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]
    assert digest_of(portal, uuid) == hashlib.sha256(content).hexdigest()


def _finishes(client: httpx.Client, place: str, content: bytes) -> bool:
    """Ask, then send the rest; what an older line still added meanwhile is told by a 409."""
    offset = offset_of(client, place)
    return offset == len(content) or sent(client, place, offset, content[offset:]).status_code == 204


def digest_of(portal: Portal, uuid: str) -> str | None:
    """The SHA-256 on record, once it is there: after a restart it comes behind the job."""

    def files() -> list[dict[str, str | None]]:
        answer = httpx.get(f"{portal.url}/api/datasets/{uuid}/files", headers=BEARER, timeout=60)
        return list(answer.json()["files"])

    wait_for(lambda: all(file["sha256"] for file in files()))
    return files()[0]["sha256"]


# -- lines that break ----------------------------------------------------------------------------


def test_thirty_cuts_at_random_bytes_leave_the_file_as_it_was(portal: Portal) -> None:
    survives_cuts(portal, cuts=30, size=24 * 2**20, seed=3)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_cuts_at_random_bytes_leave_the_file_as_it_was(portal: Portal, seed: int) -> None:
    survives_cuts(portal, cuts=100, size=8 * 2**20, seed=seed)  # a thousand in all


def test_the_client_goes_on_over_a_line_that_keeps_breaking(portal: Portal, tmp_path: Path) -> None:
    content = random.Random(5).randbytes(12 * 2**20)
    (tmp_path / "scan.tif").write_bytes(content)
    breaks = iter([5_000, 100, 2**20, 3 * 2**20, 5 * 2**20 + 1])

    with _Relay(portal.port, breaks) as relay, Client(server=relay.url, token=TOKEN) as client:
        uuid = client.upload([tmp_path / "scan.tif"])

    assert portal.source(uuid, "scan.tif") == content
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]


class _Relay:
    """Passes connections on; the n-th one breaks after as many bytes towards the portal as `breaks` says."""

    def __init__(self, port: int, breaks: Iterator[int]) -> None:
        self._port = port
        self._breaks = breaks
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> _Relay:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for line in self._open:
            _end(line)
        for thread in self._threads:
            thread.join(60)

    def _start(self, call: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=call, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            self._open += [near, far]
            self._start(self._pass, near, far, next(self._breaks, 2**60))
            self._start(self._pass, far, near, 2**60)

    def _pass(self, source: socket.socket, sink: socket.socket, most: int) -> None:
        try:
            while most > 0 and (chunk := source.recv(min(65536, most))):
                sink.sendall(chunk)
                most -= len(chunk)
        except OSError:
            pass
        for line in (source, sink):
            _end(line)


def _end(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


# -- servers that are killed ---------------------------------------------------------------------


def test_an_upload_goes_on_after_each_kill_of_the_server(portal: Portal, tmp_path: Path) -> None:
    survives_kills(portal, tmp_path / "scan.tif", size=128 * 2**20, kills=2, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 8))  # thirty kills in all
def test_kills_of_the_server_at_random_points_of_a_gibibyte_leave_the_file_as_it_was(
    portal: Portal, tmp_path: Path, seed: int
) -> None:
    survives_kills(portal, tmp_path / "scan.tif", size=2**30, kills=5, seed=seed)


def survives_kills(portal: Portal, file: Path, *, size: int, kills: int, seed: int) -> None:
    digest = write_random(file, size)
    points = sorted(random.Random(seed).sample(range(size), kills))
    shown = 0
    killed: list[int] = []

    def kill_in_the_middle(size_bytes: int) -> None:
        nonlocal shown
        shown += size_bytes
        if points and shown > points[0]:
            while points and shown > points[0]:
                points.pop(0)
                killed.append(shown)
            portal.kill()
            threading.Thread(target=portal.start).start()

    with Client(server=portal.url, token=TOKEN) as client:
        uuid = client.upload([file], on_bytes=kill_in_the_middle)

    assert len(killed) == kills
    assert shown == size
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]
    assert digest_of(portal, uuid) == digest
    assert hashlib.sha256(portal.source(uuid, "scan.tif")).hexdigest() == digest


def test_what_was_durable_at_a_kill_is_not_sent_again(portal: Portal) -> None:
    content = random.Random(7).randbytes(80 * 2**20)
    with portal.client() as client:
        answer = opened(client, len(content))
        place = answer.headers["Location"]
        with started(portal, place, content[:-1], length=len(content)):
            wait_for(lambda: offset_of(client, place) > 0)
            portal.kill()
    portal.start()

    with portal.client() as client:
        offset = offset_of(client, place)
        assert offset >= 4 * 2**20
        assert sent(client, place, offset, content[offset:]).status_code == 204
    uuid = answer.headers["Dataset-UUID"]
    assert portal.source(uuid, "scan.tif") == content
    assert digest_of(portal, uuid) == hashlib.sha256(content).hexdigest()


def started(portal: Portal, place: str, first: bytes, *, length: int) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", portal.port), timeout=60)
    headers = BYTES | {"Upload-Offset": "0", "Content-Length": str(length)}
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    line.sendall(f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1:{portal.port}\r\n{text}\r\n".encode() + first)
    return line


def test_an_upload_that_was_complete_when_the_server_died_is_taken_in_by_its_next_start(
    portal: Portal, tmp_path: Path
) -> None:
    from scientistcloud.uploads.processor import UploadProcessor

    portal.stop()
    with portal.store() as store:  # the state that a kill between the last byte and the first step leaves
        processor = UploadProcessor(store, data_dir=portal.data_dir)
        upload = processor.open_upload(user="ada@example.org", path="scan.tif", length_bytes=5)
        writing = processor.uploads.write(upload.upload_id)
        writing.write([b"bytes"])
        writing.checkpoint()
        writing.close()

    portal.start()

    wait_for(lambda: upload.upload_id not in portal.uploads())
    assert portal.source(upload.dataset_uuid, "scan.tif") == b"bytes"
    assert portal.jobs_of(upload.dataset_uuid) == [f"convert:{upload.dataset_uuid}:1"]


def test_a_server_that_is_stopped_keeps_what_came_and_does_not_wait_for_the_rest(portal: Portal) -> None:
    content = random.Random(9).randbytes(6 * 2**20)
    with portal.client() as client:
        answer = opened(client, len(content))
        place = answer.headers["Location"]
        data = portal.data_dir / "uploads" / place.rsplit("/", 1)[-1] / "data"
        with started(portal, place, content[:-1], length=len(content)):
            wait_for(lambda: data.stat().st_size >= 4 * 2**20)
            portal.stop()
    portal.start()

    with portal.client() as client:
        assert offset_of(client, place) >= 4 * 2**20


def test_a_killed_command_goes_on_where_it_was(portal: Portal, tmp_path: Path) -> None:
    folder = tmp_path / "scans of a killed command"
    folder.mkdir()
    digests = {f"{n}.tif": write_random(folder / f"{n}.tif", 24 * 2**20) for n in range(4)}
    (tmp_path / "token").write_text(TOKEN)
    command = [
        *(sys.executable, "-m", "scientistcloud", "upload", str(folder)),
        *("--server", portal.url, "--token-file", str(tmp_path / "token")),
    ]
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    others = set(portal.uploads())
    killed = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: bool(set(portal.uploads()) - others))
    killed.kill()
    killed.wait(timeout=30)
    assert set(portal.uploads()) - others  # something is left to go on with

    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)

    uuid = said.stdout.split()[-1]
    files = httpx.get(f"{portal.url}/api/datasets/{uuid}/files", headers=BEARER, timeout=60).json()["files"]
    found = httpx.get(f"{portal.url}/api/datasets", params={"text": folder.name}, headers=BEARER, timeout=60).json()
    assert [dataset["uuid"] for dataset in found["datasets"]] == [uuid]
    assert set(portal.uploads()) <= others
    assert {file["path"]: file["sha256"] for file in files} == digests
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]
    assert list((tmp_path / "state").rglob("*.jsonl")) == []


def write_random(path: Path, size: int) -> str:
    """Fill a file with bytes that nobody can guess; their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // 2**20):
            block = os.urandom(2**20)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


# -- disks that are full -------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    portal = Portal(small_disk, {"SCIENTISTCLOUD_DISK_RESERVE_BYTES": "0"})
    portal.start()
    content = random.Random(11).randbytes(12 * 2**20)
    try:
        with portal.client() as client:
            answer = opened(client, len(content))
            place = answer.headers["Location"]
            crowded = opened(client, len(content))
            assert crowded.status_code == 507  # room that was promised is not promised again
            assert "left on the server's disk" in crowded.json()["detail"]
            fill(small_disk / "another.program", leave=6 * 2**20)

            full = sent(client, place, 0, content)

            assert full.status_code == 507
            assert "free some space, then go on" in full.json()["detail"]
            assert client.get("/healthz").status_code == 200
            (small_disk / "another.program").unlink()
            offset = offset_of(client, place)
            assert sent(client, place, offset, content[offset:]).status_code == 204
        assert portal.source(answer.headers["Dataset-UUID"], "scan.tif") == content
        assert len(portal.jobs_of(answer.headers["Dataset-UUID"])) == 1
    finally:
        portal.stop()


def fill(path: Path, *, leave: int) -> None:
    facts = os.statvfs(path.parent)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, facts.f_bavail * facts.f_frsize - leave)
