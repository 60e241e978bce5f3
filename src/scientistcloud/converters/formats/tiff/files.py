"""The files of a source, opened when needed, read by position, and watched for change."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scientistcloud.errors import UnreadableSource

_OPEN_FILES = 64


class Files:
    """Numbered files. Safe from several threads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths: list[Path] = []
        self._numbers: dict[Path, int] = {}
        self._states: list[tuple[int, int]] = []
        self._open: OrderedDict[int, tuple[int, list[int]]] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False
        for path in paths:
            self.add(path)

    def add(self, path: Path) -> int:
        """The number of `path`, which is added where it is new."""
        if path not in self._numbers:
            self._numbers[path] = len(self.paths)
            self.paths.append(path)
            self._states.append(_state(path.stat()))
        return self._numbers[path]

    def size(self, file: int) -> int:
        return self._states[file][0]

    def name(self, file: int) -> str:
        return self.paths[file].name

    def read_into(self, file: int, target: memoryview, offset: int) -> None:
        """Fill `target` with the bytes from `offset`. Raises `UnreadableSource` where they are not there."""
        got = 0
        with self._borrowed(file) as fd:
            while got < len(target):
                count = os.preadv(fd, [target[got:]], offset + got)
                if count == 0:
                    raise UnreadableSource(
                        f"{self.name(file)} ends at byte {offset + got}, within its pixels; upload it again"
                    )
                got += count

    def read(self, file: int, offset: int, length: int) -> bytes:
        """The bytes from `offset`, fewer where the file ends before."""
        with self._borrowed(file) as fd:
            return os.pread(fd, min(length, max(0, self.size(file) - offset)), offset)

    def check_unchanged(self, file: int) -> None:
        """Raise `UnreadableSource` where the file is not as it was when it was opened."""
        with self._borrowed(file) as fd:
            if _state(os.fstat(fd)) != self._states[file]:
                raise UnreadableSource(f"{self.name(file)} changed while it was read; convert it again")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for file in [file for file, (_, borrowers) in self._open.items() if not borrowers[0]]:
                os.close(self._open.pop(file)[0])

    @contextmanager
    def _borrowed(self, file: int) -> Iterator[int]:
        with self._lock:
            if self._closed:
                raise ValueError("the reader is closed")
            if file not in self._open:
                idle = [each for each, (_, borrowers) in self._open.items() if not borrowers[0]]
                for each in idle[: max(0, len(self._open) + 1 - _OPEN_FILES)]:
                    os.close(self._open.pop(each)[0])
                self._open[file] = (os.open(self.paths[file], os.O_RDONLY | os.O_CLOEXEC), [0])
            self._open.move_to_end(file)
            fd, borrowers = self._open[file]
            borrowers[0] += 1
        try:
            yield fd
        finally:
            with self._lock:
                borrowers[0] -= 1
                if self._closed and not borrowers[0]:
                    os.close(self._open.pop(file)[0])


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
