"""The files of a source: what they were when a conversion began, and their digests, taken beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from scientistcloud.errors import UnreadableSource

_HASHED_BYTES = 4 << 20  # at once: between two looks at whether anybody still wants the sum


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The files of a source as they were when the conversion began."""

    root: Path
    #: Relative path -> size, time of change, inode.
    files: Mapping[str, tuple[int, int, int]]

    @classmethod
    def of(cls, source: Path) -> Fingerprint:
        root = source if source.is_dir() else source.parent
        paths = sorted(source.rglob("*")) if source.is_dir() else [source]
        files = {}
        for path in paths:
            if path.is_file():
                status = path.stat()
                files[str(path.relative_to(root))] = (status.st_size, status.st_mtime_ns, status.st_ino)
        return cls(root, files)

    def must_be_unchanged(self) -> None:
        for name, before in self.files.items():
            try:
                status = (self.root / name).stat()
                now = (status.st_size, status.st_mtime_ns, status.st_ino)
            except FileNotFoundError:
                now = (0, 0, 0)
            if now != before:
                raise UnreadableSource(
                    f"{name} changed while it was converted; convert it again when it is complete"
                )


class Hashing:
    """SHA-256 of the source files, taken in a thread from the beginning on, beside everything else."""

    def __init__(self, source: Path) -> None:
        self._fingerprint = Fingerprint.of(source.absolute())
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1, "sha256")
        self._sums = self._pool.submit(self._hash)

    def __enter__(self) -> Hashing:
        return self

    def __exit__(self, *failed: object) -> None:
        self.close()

    def close(self) -> None:
        """End, complete or not."""
        self._stop.set()
        self._pool.shutdown()

    def must_be_unchanged(self) -> None:
        """Raise `UnreadableSource` where a file is not what it was."""
        self._fingerprint.must_be_unchanged()

    def result(self) -> list[dict[str, Any]]:
        """``{path, size_bytes, sha256}`` of each file."""
        return self._sums.result()

    def _hash(self) -> list[dict[str, Any]]:
        out = []
        block = memoryview(bytearray(_HASHED_BYTES))
        for name, (size_bytes, _, _) in self._fingerprint.files.items():
            total = hashlib.sha256()
            with (self._fingerprint.root / name).open("rb", buffering=0) as file:
                while not self._stop.is_set() and (count := file.readinto(block)):
                    total.update(block[:count])
            out.append({"path": name, "size_bytes": size_bytes, "sha256": total.hexdigest()})
        return out
