"""``scientistcloud upload`` and the client behind it, against a real portal."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from intake_site import MAX_UPLOAD_BYTES, OWNER, TOKEN, Portal

from scientistcloud.cli import main
from scientistcloud.client import Client, batching, collect, find_portal, parts
from scientistcloud.client.files import LocalFile
from scientistcloud.client.manifest import Manifest
from scientistcloud.client.sending import Sending
from scientistcloud.errors import (
    InvalidParameters,
    InvalidSettings,
    InvalidTransition,
    NotFound,
    NotLoggedIn,
    TooLarge,
    Unavailable,
)
from scientistcloud.records import JobStatus
from scientistcloud.settings import Settings


@pytest.fixture
def client(portal: Portal) -> Iterator[Client]:
    with Client(server=portal.url, token=TOKEN, patience_seconds=5) as client:
        yield client


def written(path: Path, content: bytes = b"abc") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def command(tmp_path: Path, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "SCIENTISTCLOUD_DATA_DIR": str(tmp_path / "nothing here"),
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-m", "scientistcloud", "upload", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# -- the command ---------------------------------------------------------------------------------


def test_the_command_sends_a_file_and_prints_the_uuid_last(portal: Portal, tmp_path: Path) -> None:
    file = written(tmp_path / "scan.tif", os.urandom(100_000))
    token = written(tmp_path / "token", TOKEN.encode())

    said = command(tmp_path, file, "--server", portal.url, "--token-file", token, "--name", "Cells")

    assert said.returncode == 0, said.stderr
    uuid = said.stdout.strip()
    assert portal.source(uuid, "scan.tif") == file.read_bytes()
    assert f"{portal.url}/datasets/{uuid}" in said.stderr
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]


def test_the_command_finds_the_portal_of_this_machine(portal: Portal, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    written(data_dir / "portal.json", json.dumps({"address": portal.url, "token": TOKEN}).encode())
    file = written(tmp_path / "scan.tif")

    said = command(tmp_path, file, "--json", SCIENTISTCLOUD_DATA_DIR=str(data_dir))

    assert said.returncode == 0, said.stderr
    record = json.loads(said.stdout)
    assert (record["dataset_uuid"], record["user"], record["name"]) == (record["uuid"], OWNER, "scan.tif")


def test_files_and_folders_become_one_data_set(portal: Portal, tmp_path: Path) -> None:
    for name in ("b/two.tif", "b/sub/three.tif", "one.tif"):
        written(tmp_path / "in" / name, name.encode())

    said = command(
        tmp_path,
        *(tmp_path / "in" / "b", tmp_path / "in" / "one.tif", "--no-convert", "--json"),
        SCIENTISTCLOUD_PUBLIC_URL=portal.url,
        SCIENTISTCLOUD_TOKEN=TOKEN,
    )

    assert said.returncode == 0, said.stderr
    record = json.loads(said.stdout)
    assert (record["status"], record["name"]) == ("done", "b and more")
    for name in ("b/two.tif", "b/sub/three.tif", "one.tif"):
        assert portal.source(record["uuid"], name) == name.encode()
    assert portal.jobs_of(record["uuid"]) == []


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["missing.tif"], 2, "there is no file or folder missing.tif; check the name"),
        (["."], 2, "holds no file"),
        (["a.tif"], 2, "no portal runs on"),
        (["a.tif", "--server", "localhost"], 2, "is no address of a portal"),
        (["a.tif", "--server", "http://127.0.0.1:9"], 2, "there is no token for http://127.0.0.1:9"),
        (["a.tif", "--server", "http://127.0.0.1:9", "--token-file", "none"], 2, "cannot be read from none"),
        (["a.tif", "--server", "http://127.0.0.1:9", "--token-file", "a.tif"], 1, "does not answer"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    says: str,
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("SCIENTISTCLOUD_DATA_DIR", str(tmp_path / "nothing here"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "argv", ["scientistcloud", "upload", *arguments])
    if arguments[:1] == ["a.tif"]:
        written(tmp_path / "work" / "a.tif")

    with pytest.raises(SystemExit) as ended:
        main()

    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (status, "")
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_waiting_ends_with_the_conversion_and_its_failure_is_the_commands(portal: Portal, tmp_path: Path) -> None:
    from scientistcloud.datasets.settling import settle
    from scientistcloud.jobs.queue import JobQueueManager

    file, token = written(tmp_path / "scan.tif"), written(tmp_path / "token", TOKEN.encode())
    ended = threading.Event()

    def work() -> None:
        """A service that fails every job, until told to end."""
        with portal.store() as store:
            queue = JobQueueManager(store)
            while not ended.is_set():
                job = queue.get_next_job("w1", wait_seconds=0.1)
                if job is not None:
                    queue.fail_job(job, "scan.tif is no image; send another", permanent=True)
                    settle(store, job.dataset_uuid)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        said = command(tmp_path, file, "--server", portal.url, "--token-file", token, "--wait")
    finally:
        ended.set()
        worker.join(60)

    assert said.returncode == 1
    assert "scan.tif is no image; send another" in said.stderr.splitlines()[-1]
    uuid = said.stdout.strip()
    with portal.store() as store:
        assert [job.status for job in store.jobs.find(dataset_uuid=uuid)] == [JobStatus.FAILED]


# -- the client ----------------------------------------------------------------------------------


def test_the_client_raises_the_errors_that_the_portal_raised(
    portal: Portal, client: Client, tmp_path: Path
) -> None:
    nobody = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(NotFound, match="no data set"):
        client.dataset(nobody)
    with pytest.raises(InvalidTransition, match="has no file yet"):
        client.close_dataset(client.open_dataset(name="empty"))
    with pytest.raises(TooLarge, match=f"more than the {MAX_UPLOAD_BYTES}"):
        client.upload([written(tmp_path / "large.tif", bytes(MAX_UPLOAD_BYTES + 1))])
    with (
        Client(server=portal.url, token="wrong") as stranger,
        pytest.raises(NotLoggedIn, match="not the one of this portal"),
    ):
        stranger.upload([written(tmp_path / "a.tif")])


def test_a_server_that_is_no_portal_is_told(tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_request(self, code: object = "-", size: object = "-") -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with (
                Client(server=f"http://127.0.0.1:{server.server_port}", token="x") as client,
                pytest.raises(Unavailable, match="is it a portal"),
            ):
                client.upload([written(tmp_path / "a.tif")])
        finally:
            server.shutdown()
            thread.join(60)


def test_an_upload_goes_on_where_its_manifest_says(portal: Portal, client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    contents = {f"{n}.tif": os.urandom(5_000_000) for n in range(3)}
    for name, content in contents.items():
        written(folder / name, content)
    sent = 0

    def interrupt(size_bytes: int) -> None:
        nonlocal sent
        sent += size_bytes
        if sent > 9_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.upload([folder], manifests=tmp_path / "state", parallel=1, on_bytes=interrupt)
    [kept] = (tmp_path / "state").iterdir()
    again: list[int] = []
    uuid = client.upload([folder], manifests=tmp_path / "state", parallel=1, on_bytes=again.append)

    assert again[0] == 5_000_000  # a whole file that was there already
    assert sum(again) == 15_000_000
    assert {name: portal.source(uuid, name) for name in contents} == contents
    assert not kept.exists()


def test_a_manifest_of_a_portal_that_is_no_more_is_begun_anew(
    portal: Portal, client: Client, tmp_path: Path
) -> None:
    file = written(tmp_path / "scans" / "a.tif")
    manifest = Manifest.of(
        tmp_path / "state", server=portal.url, paths=[tmp_path / "scans"], name=None, sensor="auto"
    )
    manifest.opened("00000000-0000-4000-8000-000000000000")
    manifest.finished(collect([tmp_path / "scans"])[0], "0" * 64)

    uuid = client.upload([tmp_path / "scans"], manifests=tmp_path / "state")

    assert portal.source(uuid, "a.tif") == file.read_bytes()


def test_a_file_that_changed_meanwhile_is_sent_anew(portal: Portal, client: Client, tmp_path: Path) -> None:
    file = written(tmp_path / "a.tif", b"old")
    manifest = Manifest.of(tmp_path / "state", server=portal.url, paths=[file], name=None, sensor="auto")
    manifest.began(collect([file])[0], f"{portal.url}/api/uploads/{'0' * 32}")
    file.write_bytes(b"newer")

    uuid = client.upload([file], manifests=tmp_path / "state")

    assert portal.source(uuid, "a.tif") == b"newer"


def test_empty_files_and_odd_names_are_sent_too(portal: Portal, client: Client, tmp_path: Path) -> None:
    names = ["empty.tif", "<script>.tif", "🔬/a b&c.tif"]
    for name in names:
        written(tmp_path / "odd" / name, b"" if name.startswith("empty") else name.encode())

    uuid = client.upload([tmp_path / "odd"])

    assert sorted(file["path"] for file in client.files(uuid)) == sorted(names)
    assert portal.source(uuid, "empty.tif") == b""
    assert portal.source(uuid, "🔬/a b&c.tif") == "🔬/a b&c.tif".encode()
    assert [job["status"] for job in client.jobs(uuid)] == ["pending"]


def test_thousands_of_small_files_go_in_batches_and_large_ones_by_themselves(
    portal: Portal, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_BATCH_FILES", 100)
    contents = {f"slices {n % 7}/größe {n:04}.tif": os.urandom(n) for n in range(350)}
    contents["large.tif"] = os.urandom(2 * 2**20)
    for name, content in contents.items():
        written(tmp_path / "scan" / name, content)
    shown: list[int] = []

    uuid = client.upload([tmp_path / "scan"], on_bytes=shown.append)

    there = {file["path"]: file["sha256"] for file in client.files(uuid)}
    assert there == {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert sum(shown) == sum(map(len, contents.values()))
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]


def test_batches_that_were_sent_are_not_sent_again(portal: Portal, client: Client, tmp_path: Path) -> None:
    for n in range(20):
        written(tmp_path / "scan" / f"{n}.tif", b"x" * n)
    written(tmp_path / "scan" / "large.tif", os.urandom(9 * 2**20))

    def interrupt(size_bytes: int) -> None:
        if size_bytes > 2**20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.upload([tmp_path / "scan"], manifests=tmp_path / "state", parallel=1, on_bytes=interrupt)
    [kept] = (tmp_path / "state").iterdir()
    assert kept.read_text().count('"done"') == 20

    uuid = client.upload([tmp_path / "scan"], manifests=tmp_path / "state")

    assert len(list(client.files(uuid))) == 21


LARGE = random.Random(7).randbytes(34 * 2**20 + 5)


def test_a_large_file_in_parts_is_one_file_of_one_data_set(portal: Portal, tmp_path: Path) -> None:
    path = written(tmp_path / "large.bin", LARGE)

    said = command(tmp_path, "--server", portal.url, "--parts", 3, "--no-convert", path, SCIENTISTCLOUD_TOKEN=TOKEN)

    assert said.returncode == 0, said.stderr
    uuid = said.stdout.split()[-1]
    assert portal.source(uuid, "large.bin") == LARGE
    assert portal.uploads() == []
    with portal.store() as store:
        [file] = store.datasets.files(uuid)
    assert file.sha256 == hashlib.sha256(LARGE).hexdigest()


def test_parts_are_gone_on_with_where_a_command_was_ended(portal: Portal, client: Client, tmp_path: Path) -> None:
    path = written(tmp_path / "scan" / "large.bin", LARGE)
    sent = 0

    def interrupt(size_bytes: int) -> None:
        nonlocal sent
        sent += size_bytes
        if sent > 26 * 2**20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.upload([path.parent], parts=3, convert=False, manifests=tmp_path / "state", on_bytes=interrupt)
    begun = set(portal.uploads())
    seen, again = set(begun), 0

    def look(size_bytes: int) -> None:
        nonlocal again
        again += size_bytes
        seen.update(portal.uploads())

    uuid = client.upload([path.parent], parts=3, convert=False, manifests=tmp_path / "state", on_bytes=look)

    assert len(begun) == 3
    assert seen == begun  # no part was begun anew
    assert again == len(LARGE)
    assert portal.source(uuid, "large.bin") == LARGE
    assert portal.uploads() == []
    assert list((tmp_path / "state").iterdir()) == []


def test_parts_whose_last_answer_was_lost_are_not_sent_again(
    portal: Portal, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "large.bin", LARGE)
    ask, asked, sent = parts._ask_for_whole, [], 0

    def lose(sending: Sending, file: LocalFile, *said: Any) -> str:
        location = ask(sending, file, *said)
        asked.append(location)
        sending.manifest.again(parts._whole(file))
        raise httpx.ReadError("the line broke")

    def count(size_bytes: int) -> None:
        nonlocal sent
        sent += size_bytes

    monkeypatch.setattr(parts, "_ask_for_whole", lose)
    uuid = client.upload([path], parts=2, convert=False, on_bytes=count)

    assert len(asked) == 1  # the second time there was nothing to be put together
    assert sent == len(LARGE)
    assert portal.source(uuid, "large.bin") == LARGE
    assert portal.uploads() == []


@pytest.mark.parametrize("sizes", [(3 * 2**20, 10), (300_000, 300_000, 300_000)])
def test_what_arrives_with_another_digest_is_sent_again(
    portal: Portal, tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    contents = {f"{n}.tif": os.urandom(size) for n, size in enumerate(sizes)}
    for name, content in contents.items():
        written(tmp_path / "scan" / name, content)

    with FlippingLine(portal.port, at=400_000) as line, Client(server=line.url, token=TOKEN) as client:
        uuid = client.upload([tmp_path / "scan"], parallel=1)
        assert line.flipped

    assert {name: portal.source(uuid, name) for name in contents} == contents
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]


class FlippingLine:
    """Passes connections on to the portal; once, one byte on the way there becomes another."""

    def __init__(self, port: int, *, at: int) -> None:
        self.flipped = False
        self._port, self._at = port, at
        self._lines: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> FlippingLine:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for line in (self._listening, *self._lines):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        for line in (self._listening, *self._lines):
            line.close()

    def _start(self, call: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=call, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._lines += [near, far]
                self._start(self._pass, near, far, True)
                self._start(self._pass, far, near, False)

    def _pass(self, source: socket.socket, sink: socket.socket, there: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if there and not self.flipped and passed <= self._at < passed + len(chunk):
                    self.flipped = True
                    wrong = bytearray(chunk)
                    wrong[self._at - passed] ^= 1
                    chunk = bytes(wrong)
                passed += len(chunk)
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)


# -- files and addresses -------------------------------------------------------------------------


def test_equal_names_from_two_folders_are_refused(tmp_path: Path) -> None:
    files = [written(tmp_path / name / "a.tif") for name in ("one", "two")]

    with pytest.raises(InvalidParameters, match="have the same name"):
        collect(files)


def test_a_broken_link_is_left_out_and_a_sound_one_followed(tmp_path: Path) -> None:
    written(tmp_path / "in" / "a.tif", b"abcd")
    (tmp_path / "in" / "b.tif").symlink_to(tmp_path / "in" / "a.tif")
    (tmp_path / "in" / "c.tif").symlink_to(tmp_path / "nowhere")

    assert [(file.name, file.size_bytes) for file in collect([tmp_path / "in"])] == [("a.tif", 4), ("b.tif", 4)]


def test_a_manifest_whose_last_line_was_cut_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "m.jsonl")
    file = LocalFile(tmp_path / "a", "a", 1, 1)
    manifest.opened("uuid")
    manifest.began(file, "/somewhere")
    with (tmp_path / "m.jsonl").open("a") as cut:
        cut.write('{"done": "1 1')

    again = Manifest(tmp_path / "m.jsonl")

    assert (again.dataset_uuid, again.location(file), again.is_done(file)) == ("uuid", "/somewhere", False)


def test_the_token_of_this_machine_is_never_sent_to_another_server(tmp_path: Path) -> None:
    written(tmp_path / "portal.json", json.dumps({"address": "http://127.0.0.1:8080", "token": "secret"}).encode())
    settings = Settings(data_dir=tmp_path)

    assert find_portal(settings) == ("http://127.0.0.1:8080", "secret")
    with pytest.raises(InvalidSettings, match="there is no token for https://elsewhere"):
        find_portal(settings, server="https://elsewhere.example")
