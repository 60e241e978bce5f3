"""What is remembered of uploads that needed no folder: a line of a log for each, which the upload's id leads to."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from scientistcloud.ports import Clock
from scientistcloud.uploads.record import Upload, from_json, out_of_space, to_json

_AGE, _SIZE_BYTES = timedelta(hours=1), 2**30
_LONGEST_LINE = 256 * 1024  # twice what a server takes as headers


class EndedLog:
    """Logs in `folder`, one after the other, each of one process. Threads may share it.

    An id is 16 digits for the log, 8 for the place in it and 8 by chance, all hexadecimal.
    """

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._alone = threading.Lock()
        self._handle = -1
        self._name = ""
        self._begun = clock.now()
        self._end = 0

    def add(self, uploads: Sequence[Upload]) -> list[Upload]:
        """Remember the uploads, under new ids; what they are then. Outlives the process, not the machine."""
        with self._alone, out_of_space("what is known of an upload"):
            now = self._clock.now()
            if self._handle < 0 or self._end > _SIZE_BYTES or now - self._begun > _AGE:
                self._begin(now)
            named, lines, at = [], [], self._end
            for upload in uploads:
                known = replace(upload, upload_id=f"{self._name}{at:08x}{secrets.token_hex(4)}")
                line = to_json(known).encode() + b"\n"
                named.append(known)
                lines.append(line)
                at += len(line)
            if os.write(self._handle, b"".join(lines)) != at - self._end:
                self.close()  # what comes next would not lie where its id says
                raise OSError(28, "No space left on device")
            self._end = at
        return named

    def find(self, upload_id: str) -> Upload | None:
        try:
            with (self._folder / upload_id[:16]).open("rb") as log:
                log.seek(int(upload_id[16:24], 16))
                line = log.readline(_LONGEST_LINE)
        except FileNotFoundError:
            return None
        known = from_json(line) if line.endswith(b"\n") else None
        return known if known is not None and known.upload_id == upload_id else None

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _begin(self, now: datetime) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._name, self._begun, self._end = secrets.token_hex(8), now, 0
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._handle = os.open(self._folder / self._name, flags, 0o644)
