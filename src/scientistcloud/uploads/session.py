"""One upload: a folder with `info.json`, `data` and `writer`, which is its only record.

The durable offset is what `info.json` says; it is written after an fsync of the bytes below it. What lies beyond
it in `data` is cut off before the next byte is written, so neither a crash nor a rival leaves a byte that was not
promised. `writer` holds a number that grows with each new writer and is locked for as long as one block takes:
an older writer, also in another process, finds a greater number before its next block and stops. No lock is held
between blocks, and none outlives its process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scientistcloud.errors import NotFound, Stale, Unavailable
from scientistcloud.ports import Clock
from scientistcloud.uploads.record import (
    DATA,
    INFO,
    Upload,
    out_of_space,
    read_upload,
    sync_folder,
    write_upload,
)

if TYPE_CHECKING:
    from hashlib import _Hash

WRITER = "writer"
LOCK_SECONDS = 10.0
"""A block takes milliseconds: who waits longer for the lock waits for a process that is stopped."""

_GONE = -1


@contextmanager
def locked(handle: int, what: str, *, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock of the open file `handle`, waiting for it at most `seconds`. Raises `Unavailable`."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable(f"{what} is held by a process that does not go on; try again later") from None
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


class Hash(Protocol):
    """What `hashlib` and `blake3` give."""

    def update(self, data: bytes | memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


class WriterFile:
    """The file `writer` of an upload: its lock, and the number of the newest writer."""

    def __init__(self, folder: Path) -> None:
        self._name = folder.name
        try:
            self._handle = os.open(folder / WRITER, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self.missing() from None

    def missing(self) -> NotFound:
        return NotFound(f"there is no upload {self._name}; it may have ended or expired, begin a new one")

    @contextmanager
    def held(self, *, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Nobody else changes the upload meanwhile. Raises `NotFound` where it is gone, `Unavailable`."""
        with locked(self._handle, f"upload {self._name}", seconds=seconds):
            if self.number() == _GONE:
                raise self.missing()
            yield

    def number(self) -> int:
        return int(os.pread(self._handle, 20, 0))

    def set(self, number: int) -> None:
        os.pwrite(self._handle, f"{number:<20}".encode(), 0)

    def mark_gone(self) -> None:
        """Whoever still has the file open finds that the upload ended. To be called while it is held."""
        self.set(_GONE)

    def close(self) -> None:
        os.close(self._handle)


class Digests:
    """SHA-256 of what each upload's durable bytes are, between its requests; lost with the process.

    Where one is lost, nobody waits for it: the processor reads the file again when all else is done.
    """

    def __init__(self, *, most: int = 4096) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[int, _Hash]] = {}

    def keep(self, upload_id: str, offset_bytes: int, digest: _Hash) -> None:
        with self._lock:
            self._kept.pop(upload_id, None)
            self._kept[upload_id] = (offset_bytes, digest)
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]

    def resume(self, upload: Upload) -> _Hash | None:
        """The digest of the upload's durable bytes, to go on with; None where it is not known."""
        if upload.offset_bytes == 0:
            return hashlib.sha256()
        with self._lock:
            offset_bytes, digest = self._kept.get(upload.upload_id, (-1, None))
        return digest.copy() if digest is not None and offset_bytes == upload.offset_bytes else None

    def forget(self, upload_id: str) -> None:
        with self._lock:
            self._kept.pop(upload_id, None)


class Writing:
    """The right to write an upload, until a newer writer takes it.

    `write` may run in one thread while `checkpoint` runs in another. Both raise `Stale` once a newer writer came or
    this one was closed, `NotFound` once the upload is gone, `NoSpace`, `Unavailable`.

    `durable` False: the offset on record outlives the process, but not the machine; the bytes do, as ever. For an
    upload that nobody is told of before it is complete.
    """

    def __init__(
        self, folder: Path, *, clock: Clock, expiry: timedelta, digests: Digests, durable: bool = True
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._expiry = expiry
        self._digests = digests
        self._durable = durable
        self._one_thread = threading.Lock()  # flock does not exclude threads that share an open file
        self._one_checkpoint = threading.Lock()
        self._closed = False
        self._writer = WriterFile(folder)
        try:
            with self._writer.held():
                self._number = self._writer.number() + 1
                self._writer.set(self._number)
                upload = read_upload(folder / INFO)
                if upload is None:
                    raise self._writer.missing()
                self.upload = upload
                try:
                    self._data = os.open(folder / DATA, os.O_WRONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    raise self._writer.missing() from None
                os.ftruncate(self._data, upload.offset_bytes)
        except BaseException:
            self._writer.close()
            raise
        self._written = upload.offset_bytes
        self._digest = digests.resume(upload)

    def write(self, blocks: Sequence[bytes | memoryview], also: Hash | None = None) -> None:
        """Write `blocks` one after the other behind what was written before; `also` is updated with them."""
        at = self._written
        with self._mine(), out_of_space(f"upload {self.upload.upload_id}"):
            left = list(blocks)
            while left:
                wrote = os.pwritev(self._data, left[:1024], at)
                at += wrote
                left = _behind(left, wrote)
        with self._one_thread:
            for digest in (self._digest, also):
                if digest is not None:
                    for block in blocks:
                        digest.update(block)
            self._written = at

    def flush(self) -> None:
        """Make what has been written durable, and promise nothing of it."""
        with self._one_checkpoint:
            self._require_open()
            with out_of_space(f"upload {self.upload.upload_id}"):
                os.fdatasync(self._data)

    def note(self, *, reserved_bytes: int, length_bytes: int | None) -> None:
        """Keep for how many bytes there is room, and how many there will be, once that is known."""
        with self._one_checkpoint:
            noted = replace(self.upload, reserved_bytes=reserved_bytes, length_bytes=length_bytes)
            if noted.complete and noted.sha256 is None:
                digest = self._digests.resume(noted)
                noted = replace(noted, sha256=None if digest is None else digest.hexdigest())
            fresh = write_upload(self._folder, noted, name=f"{INFO}.{self._number}", durable=self._durable)
            with self._mine():
                fresh.rename(self._folder / INFO)
            if self._durable:
                sync_folder(self._folder)
            self.upload = noted

    def checkpoint(self) -> Upload:
        """Make what has been written durable, then the offset that says so."""
        with self._one_checkpoint:
            return self._checkpoint()

    def require_mine(self) -> None:
        """Raise `Stale` if a newer writer came."""
        with self._mine():
            pass

    def close(self) -> None:
        """Let go of the files, after what is being done in other threads; nothing more is done afterwards.

        What was written since the last checkpoint will be cut off.
        """
        with self._one_checkpoint, self._one_thread:
            if not self._closed:
                self._closed = True
                os.close(self._data)
                self._writer.close()

    def _checkpoint(self) -> Upload:
        with self._one_thread:
            self._require_open()
            offset_bytes = self._written
            digest = None if self._digest is None else self._digest.copy()
        if offset_bytes == self.upload.offset_bytes:
            return self.upload
        with out_of_space(f"upload {self.upload.upload_id}"):
            os.fdatasync(self._data)
        complete = offset_bytes == self.upload.length_bytes
        upload = replace(
            self.upload,
            offset_bytes=offset_bytes,
            expires_at=self._clock.now() + self._expiry,
            sha256=digest.hexdigest() if digest is not None and complete else None,
            inode=os.fstat(self._data).st_ino,  # another one, where the data folder was restored from a copy
        )
        fresh = write_upload(self._folder, upload, name=f"{INFO}.{self._number}", durable=self._durable)
        with self._mine():
            fresh.rename(self._folder / INFO)
        if self._durable:
            sync_folder(self._folder)
        if digest is not None:
            self._digests.keep(upload.upload_id, offset_bytes, digest)
        self.upload = upload
        return upload

    @contextmanager
    def _mine(self) -> Iterator[None]:
        with self._one_thread:
            self._require_open()
            with self._writer.held():
                if self._writer.number() != self._number:
                    raise Stale(f"a newer request goes on with upload {self.upload.upload_id}; ask for its offset")
                yield

    def _require_open(self) -> None:
        if self._closed:  # the numbers of its files may be another's by now
            raise Stale(f"the request that wrote upload {self.upload.upload_id} has ended; ask for its offset")


def _behind(blocks: list[bytes | memoryview], size: int) -> list[bytes | memoryview]:
    """What is left of `blocks` after their first `size` bytes."""
    for index, block in enumerate(blocks):
        if size < len(block):
            return [block[size:], *blocks[index + 1 :]] if size else blocks[index:]
        size -= len(block)
    return []


def remove_quietly(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
