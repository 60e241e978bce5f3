"""A data set from the portal to a folder or a zip: in parts that survive a break, checked by SHA-256."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import httpx

from scientistcloud.client.answers import checked, unreachable
from scientistcloud.errors import Cancelled, NoSpace, Transient, Unavailable
from scientistcloud.layout import checked_path

PART = ".part"
_BLOCK_BYTES = 2**20
_LONGEST_PAUSE_SECONDS = 20.0


class RemoteFile(NamedTuple):
    """A file to be fetched."""

    #: On the portal.
    address: str
    #: Below the folder that it goes to.
    path: str
    #: None: known from the answer.
    size_bytes: int | None
    #: None: not known, and so not checked.
    sha256: str | None


class Fetching:
    """Fetches files on one HTTP client; threads share it. `on_bytes` is told of each byte that is there."""

    def __init__(self, http: httpx.Client, *, patience_seconds: float, on_bytes: Callable[[int], None]) -> None:
        self._http = http
        self._server = str(http.base_url).rstrip("/")
        self._patience_seconds = patience_seconds
        self._on_bytes = on_bytes
        self._stop = threading.Event()

    def fetch_all(self, files: Sequence[RemoteFile], folder: Path, *, parallel: int) -> None:
        """Fetch `files` into `folder`; those that are there and hold are left alone. The first error ends all."""
        with ThreadPoolExecutor(max_workers=max(1, parallel), thread_name_prefix="download") as threads:
            futures = [threads.submit(self.fetch, file, folder / checked_path(file.path)) for file in files]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self._stop.set()
                for future in futures:
                    future.cancel()
                raise

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Fetch one file to `target`, where it appears when it is whole and holds.

        What a break left in `target` + ``.part`` is gone on with. Raises `Unavailable` where the portal stays
        silent, or sends something else than it said, twice.
        """
        if self._is_there(file, target):
            self._on_bytes(target.stat().st_size)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + PART)
        for _ in range(2):
            self._receive(file, part)
            if file.sha256 is None or _sha256(part) == file.sha256:
                part.replace(target)
                return
            self._on_bytes(-part.stat().st_size)
            part.unlink()  # a part of another version, or of a bad disk: from the beginning, once
        raise Unavailable(f"{file.path} does not have the SHA-256 that the portal gives for it; try again later")

    def _is_there(self, file: RemoteFile, target: Path) -> bool:
        if file.sha256 is None or not target.is_file() or target.stat().st_size != file.size_bytes:
            return False
        return _sha256(target) == file.sha256

    def _receive(self, file: RemoteFile, part: Path) -> None:
        """All bytes into `part`, over as many breaks as it takes."""
        shown, etag, failures, heard = 0, "", 0, time.monotonic()
        while True:
            there = part.stat().st_size if part.exists() else 0
            self._on_bytes(there - shown)
            shown = there
            if file.size_bytes is not None and there == file.size_bytes and (there or part.exists()):
                return
            try:
                # Without a digest nothing would tell a part of an older version: then begin anew, or be told.
                headers = {"Range": f"bytes={there}-"} if there and (etag or file.sha256) else {}
                if etag and there:
                    headers["If-Range"] = etag
                with self._http.stream("GET", file.address, headers=headers) as answer:
                    if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                        part.unlink()
                        continue
                    if not answer.is_success:
                        answer.read()
                        checked(answer)
                    etag = answer.headers.get("ETag", "")
                    resumed = answer.status_code == HTTPStatus.PARTIAL_CONTENT
                    total = int(answer.headers["Content-Length"]) + (there if resumed else 0)
                    if not resumed:
                        self._on_bytes(-shown)
                        shown = 0
                    with _written(part, resumed) as sink:
                        for block in answer.iter_raw(_BLOCK_BYTES):
                            if self._stop.is_set():
                                raise Cancelled(
                                    "the download was interrupted; the same command goes on where it was"
                                )
                            sink.write(block)
                            self._on_bytes(len(block))
                            shown += len(block)
                            heard, failures = time.monotonic(), 0
                if shown == total:
                    return
                trouble: Transient = Unavailable(f"{file.path} broke off")
            except httpx.TransportError as failed:
                trouble = unreachable(self._server, failed)
            except Transient as failed:
                if isinstance(failed, NoSpace):
                    raise
                trouble = failed
            if time.monotonic() - heard > self._patience_seconds:
                raise trouble
            self._stop.wait(min(_LONGEST_PAUSE_SECONDS, 0.25 * 2**failures))
            failures += 1


class _written:  # noqa: N801  # used like a function
    """The part, to be written behind what is there, or anew; a full disk is told in words."""

    def __init__(self, part: Path, behind: bool) -> None:
        self._part = part
        self._file = part.open("ab" if behind else "wb")

    def __enter__(self) -> _written:
        return self

    def write(self, block: bytes) -> None:
        try:
            self._file.write(block)
        except OSError as full:
            raise NoSpace(f"{self._part} cannot be written: {full.strerror}; free some space, then go on") from full

    def __exit__(self, *_: object) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def addresses(below: str, rows: Iterator[dict[str, object]]) -> Iterator[RemoteFile]:
    """The files of a list that the portal gave, which lie below the address `below`."""
    for row in rows:
        path = str(row["path"])
        yield RemoteFile(
            address=f"{below}/{quote(path)}",
            path=path,
            size_bytes=int(str(row["size_bytes"])),
            sha256=None if row["sha256"] is None else str(row["sha256"]),
        )
