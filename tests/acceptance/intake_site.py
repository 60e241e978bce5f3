"""A portal in a process of its own, and what its tests say to it. Run as a program, it is that process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from scientistcloud.assembly import open_store
from scientistcloud.ports import Store
from scientistcloud.uploads.metadata import encode

TOKEN = "intake-test-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TUS = BEARER | {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}
OWNER = "ada@example.org"

# Of the portal that tests share.
MAX_UPLOAD_BYTES = 40_000_000
QUOTA_BYTES = 2_000_000_000


class Portal:
    """The process, started and killed at will; the data folder stays."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.settings = dict(settings or {})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        #: Uploads that the test has nothing to do with.
        self.earlier: set[str] = set()

    def start(self, *, before: Sequence[str] = ()) -> None:
        """Start the process, behind the words of another command where `before` gives some."""
        environment = os.environ | {
            "SCIENTISTCLOUD_DATA_DIR": str(self.data_dir),
            "SCIENTISTCLOUD_PORT": str(self.port),
            "SCIENTISTCLOUD_TOKEN": TOKEN,
            "SCIENTISTCLOUD_USER_EMAIL": OWNER,
            **self.settings,
        }
        self._process = subprocess.Popen([*before, sys.executable, __file__], env=environment)
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/healthz", timeout=5)
                return
            except httpx.TransportError:
                assert self._process.poll() is None, "the portal did not start"
                assert time.monotonic() < deadline, "the portal does not answer"
                time.sleep(0.05)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=30)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()

    def client(self, **options: Any) -> httpx.Client:
        """A client that prints what the portal refuses, for whoever reads why a test failed."""
        known: dict[str, Any] = {"timeout": 60, "event_hooks": {"response": [_print_refusal]}}
        return httpx.Client(base_url=self.url, **known | options)

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        store = open_store(f"sqlite:///{self.data_dir / 'scientistcloud.db'}")
        try:
            yield store
        finally:
            store.close()

    def jobs_of(self, dataset_uuid: str) -> list[str]:
        """The idempotency keys of the data set's jobs."""
        with self.store() as store:
            return [job.idempotency_key or "" for job in store.jobs.find(dataset_uuid=dataset_uuid)]

    def source(self, dataset_uuid: str, path: str) -> bytes:
        return (self.data_dir / "datasets" / dataset_uuid / "source" / path).read_bytes()

    def uploads(self) -> list[str]:
        """The folders of uploads that have not ended."""
        folder = self.data_dir / "uploads"
        if not folder.exists():
            return []
        found = {each.name for each in folder.iterdir() if not each.name.startswith(".")}
        return sorted(found - self.earlier)


def _print_refusal(answer: httpx.Response) -> None:
    if answer.is_error:
        answer.read()
        print(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")


def opened(client: httpx.Client, length: int, name: str = "scan.tif", **metadata: str) -> httpx.Response:
    """POST: an upload of `length` bytes."""
    return client.post(
        "/api/uploads/",
        headers=TUS | {"Upload-Length": str(length), "Upload-Metadata": encode({"filename": name} | metadata)},
    )


def sent(client: httpx.Client, location: str, offset: int, content: bytes | Iterator[bytes]) -> httpx.Response:
    return client.patch(location, headers=BYTES | {"Upload-Offset": str(offset)}, content=content)


def offset_of(client: httpx.Client, location: str) -> int:
    answer = client.head(location, headers=TUS)
    assert answer.status_code == 200, answer.text
    return int(answer.headers["Upload-Offset"])


def main() -> None:
    from scientistcloud.portal.app import create_app
    from scientistcloud.portal.server import PortalServer
    from scientistcloud.settings import read_settings

    settings = read_settings()
    store = open_store(settings.store_url)
    server = PortalServer(create_app(settings, store))
    server.config.timeout_graceful_shutdown = 2
    with socket.create_server(("127.0.0.1", settings.port), backlog=2048) as listener:
        server.run(sockets=[listener])
    store.close()


if __name__ == "__main__":
    main()
