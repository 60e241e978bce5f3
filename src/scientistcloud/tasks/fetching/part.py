"""One file on its way in: its bytes, and a checkpoint beside them that outlives the process.

The offset in the checkpoint is written after the bytes below it are synced; what lies beyond it is cut off before
the next byte is written, as with uploads.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from scientistcloud.errors import NoSpace, Unavailable
from scientistcloud.uploads.tree import Written

CHECKPOINT_BYTES = 64 << 20
CHECKPOINT_SECONDS = 5.0
_READ_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is known of a file that has not come to its end."""

    #: Below the folder of the files.
    path: str
    offset_bytes: int = 0
    #: As the server said it; None where it said none.
    length_bytes: int | None = None
    #: What `If-Range` takes: a strong ETag, else the time of change; None: a break means a new beginning.
    validator: str | None = None


class Part:
    """The file at the path that the checkpoint in `keep` names, else at `path`."""

    def __init__(self, keep: Path, files: Path, *, path: str) -> None:
        self._note = keep / "checkpoint"
        self._files = files
        self.known = self._read() or Checkpoint(path=path)
        self._file = -1
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._at = (0, time.monotonic())

    def __enter__(self) -> Part:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file >= 0:
            os.close(self._file)

    @property
    def offset_bytes(self) -> int:
        """So many bytes are here; those up to the checkpoint for good."""
        return self._offset

    def begin(self, *, path: str | None, length_bytes: int | None, validator: str | None) -> None:
        """All from the start, as the server has it now."""
        before = self.known.path
        self.known = Checkpoint(path=path or before, length_bytes=length_bytes, validator=validator)
        if self.known.path != before:
            os.close(self._file)
            (self._files / before).unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)
            self._open()
        self._cut(0)

    def write(self, block: bytes) -> None:
        with _no_space(self.known.path):
            view = memoryview(block)
            at = self._offset
            while view:
                written = os.pwrite(self._file, view, at)
                view, at = view[written:], at + written
        if self._hashed == self._offset:
            self._hash.update(block)
            self._hashed += len(block)
        self._offset += len(block)
        bytes_then, then = self._at
        if self._offset - bytes_then >= CHECKPOINT_BYTES or time.monotonic() - then >= CHECKPOINT_SECONDS:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make what is here durable, and say so."""
        with _no_space(self.known.path):
            os.fdatasync(self._file)
            self.known = replace(self.known, offset_bytes=self._offset)
            new = self._note.with_suffix(".new")
            with new.open("w") as file:
                json.dump(asdict(self.known), file)
                file.flush()
                os.fsync(file.fileno())
            new.rename(self._note)
            _sync(self._note.parent)
        self._at = (self._offset, time.monotonic())

    def end(self, say: Callable[[int], None]) -> Written:
        """The whole file is here: durable, with its sum. `say` hears how far that has come."""
        with _no_space(self.known.path):
            os.fdatasync(self._file)
        if self._hashed != self._offset:
            self._hash, at = hashlib.sha256(), 0
            while block := os.pread(self._file, _READ_BYTES, at):
                self._hash.update(block)
                at += len(block)
                say(at)
        return Written(path=self.known.path, size_bytes=self._offset, sha256=self._hash.hexdigest())

    def forget(self) -> None:
        """Once the file is on the list of those that are here."""
        self._note.unlink(missing_ok=True)

    def _open(self) -> None:
        place = self._files / self.known.path
        place.parent.mkdir(parents=True, exist_ok=True)
        with _no_space(self.known.path):
            self._file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        here = os.fstat(self._file).st_size
        self._cut(self.known.offset_bytes if here >= self.known.offset_bytes else 0)

    def _cut(self, offset_bytes: int) -> None:
        os.ftruncate(self._file, offset_bytes)
        self._offset = offset_bytes
        self._hash, self._hashed = hashlib.sha256(), 0
        self._at = (offset_bytes, time.monotonic())

    def _read(self) -> Checkpoint | None:
        try:
            return Checkpoint(**json.loads(self._note.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


@contextmanager
def alone(keep: Path, *, seconds: float = 30) -> Iterator[None]:
    """One process at a time: an earlier attempt may not have died yet. Raises `Unavailable`."""
    handle = os.open(keep / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Unavailable("an earlier attempt of this import still runs; it is tried again") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(handle)


@contextmanager
def _no_space(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as failed:
        if failed.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"the disk is full at {path!r}; free some space, it is tried again") from failed
        raise


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
