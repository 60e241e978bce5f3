"""Who writes an upload where two requests for it come one after the other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

import pytest
from portal_site import TOKEN, Site, running_site

from scientistcloud.portal.api import uploads
from scientistcloud.uploads.metadata import encode

P = ParamSpec("P")
T = TypeVar("T")
TUS = {"Tus-Resumable": "1.0.0"}


class SlowFirst(ThreadPoolExecutor):
    """Threads of which the first that has something to do is held back."""

    def __init__(self) -> None:
        super().__init__(4)
        self.held, self.go_on = threading.Event(), threading.Event()

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self.held.is_set():
            return super().submit(call, *args, **kwargs)
        self.held.set()

        def late() -> T:
            assert self.go_on.wait(60)
            return call(*args, **kwargs)

        return super().submit(late)


def patched(site: Site, place: str, body: bytes) -> socket.socket:
    """A PATCH of ten bytes of which these were sent."""
    line = socket.create_connection((urlsplit(site.url).hostname, urlsplit(site.url).port), timeout=60)
    line.sendall(
        f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nTus-Resumable: 1.0.0\r\n"
        "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nContent-Length: 10\r\n\r\n".encode()
        + body
    )
    return line


def answer_on(line: socket.socket) -> HTTPResponse:
    answer = HTTPResponse(line)
    answer.begin()
    return answer


def test_a_request_whose_thread_comes_late_does_not_take_the_upload_from_the_one_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        running_site(tmp_path / "data", disk_reserve_bytes=0) as site,
        site.program() as client,
        SlowFirst() as slow,
    ):
        headers = TUS | {"Upload-Length": "10", "Upload-Metadata": encode({"filename": "a.bin"})}
        place = client.post("/api/uploads/", headers=headers).headers["Location"]
        monkeypatch.setattr(uploads._endpoint, "_threads", slow)
        with patched(site, place, b"01234") as first:
            assert slow.held.wait(60)
            with patched(site, place, b"01234") as second:
                written = site.settings.data_dir / "uploads" / place.rpartition("/")[2] / "writer"
                while int(written.read_text()) == 0:
                    pass
                slow.go_on.set()
                refused = answer_on(first)
                second.sendall(b"56789")
                whole = answer_on(second)

    assert (refused.status, whole.status) == (503, 204)
