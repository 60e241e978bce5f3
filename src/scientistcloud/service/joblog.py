"""What an attempt prints, in ``logs/JOB_ID.log``: bounded, the head and the tail kept."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

_MARK = b"\n[... %d bytes are left out here ...]\n"


class JobLog:
    """The log of one job, to which each of its attempts appends. Never longer than `limit_bytes`, about.

    A log that cannot be written (a full disk) is no reason for the attempt to fail: what does not fit is lost.
    """

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        self._path = path
        self._limit = limit_bytes
        self._size = 0
        self._file: int | None = None
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()

    def write(self, data: bytes) -> None:
        """Append what the attempt printed."""
        if self._file is None:
            return
        with suppress(OSError):
            while data:  # in pieces: one write may be longer than the whole log
                piece, data = data[: self._limit // 4], data[self._limit // 4 :]
                if self._size + len(piece) > self._limit:
                    self._leave_out_the_middle()
                self._size += os.write(self._file, piece)

    def note(self, text: str) -> None:
        """Append a line of the service's own."""
        self.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}\n".encode(errors="replace"))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> None:
        self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._file).st_size

    def _leave_out_the_middle(self) -> None:
        """Keep a quarter of the limit at either end, so that this is done once for each half of it."""
        keep = self._limit // 4
        new = self._path.with_suffix(".new")
        with self._path.open("rb") as old, new.open("wb") as shorter:
            shorter.write(old.read(keep))
            shorter.write(_MARK % (self._size - 2 * keep))
            old.seek(-keep, os.SEEK_END)
            shorter.write(old.read(keep))
        new.replace(self._path)
        self._open()
