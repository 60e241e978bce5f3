"""The photographs of a source: opened, watched for change, decoded when asked for, and kept while there is room."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from scientistcloud.converters.formats.photographs import jpeg, png, tiff
from scientistcloud.converters.formats.photographs.header import (
    JPEG_MAGIC,
    PNG_MAGIC,
    TIFF_MAGIC,
    Header,
    check_possible,
)
from scientistcloud.errors import NoSpace, UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array

KEPT_BYTES = 192 << 20
"""So much of decoded photographs is kept in memory."""
SCRATCH_FROM_BYTES = 96 << 20
"""A photograph that becomes larger is decoded into a file without a name, which the kernel writes out and drops."""


class Gallery:
    """Numbered photographs. Safe from several threads."""

    def __init__(self, paths: Sequence[Path], *, scratch: Path | None) -> None:
        self._paths = list(paths)
        self._scratch = scratch
        self._states = [_state(path) for path in paths]
        self.headers = [self._header(number) for number in range(len(paths))]
        self._decoded: OrderedDict[int, Array] = OrderedDict()
        self._decoding = [threading.Lock() for _ in paths]
        self._lock = threading.Lock()

    def name(self, number: int) -> str:
        return self._paths[number].name

    def path(self, number: int) -> Path:
        return self._paths[number]

    def pixels(self, number: int) -> Array:
        """Rows, columns and (where there are several) samples, as stored. Raises `SourceError`, `NoSpace`."""
        self.check_unchanged(number)
        with self._decoding[number]:  # who comes second waits for the first instead of decoding it again
            with self._lock:
                if number in self._decoded:
                    self._decoded.move_to_end(number)
                    return self._decoded[number]
            made = self._decode(number)
            with self._lock:
                self._decoded[number] = made
                self._forget(keep=number)
            return made

    def check_unchanged(self, number: int) -> None:
        if _state(self._paths[number]) != self._states[number]:
            raise UnreadableSource(f"{self.name(number)} changed while it was read; convert it again")

    def close(self) -> None:
        with self._lock:
            self._decoded.clear()

    def _header(self, number: int) -> Header:
        path, name = self._paths[number], self.name(number)
        with _mapped(path) as data:
            if data[:3] == JPEG_MAGIC:
                found, most = jpeg.header(data, name), jpeg.MOST_PACKED
            elif data[: len(PNG_MAGIC)] == PNG_MAGIC:
                found, most = png.header(data, name), png.MOST_PACKED
            elif data[:4] in TIFF_MAGIC:
                found, most = tiff.header(path), tiff.MOST_PACKED
            else:
                raise UnsupportedSource(f"{name} is no PNG, JPEG or TIFF; leave the choice of the sensor")
            check_possible(found, name=name, file_bytes=len(data), most_packed=most)
        return found

    def _decode(self, number: int) -> Array:
        path, name, header = self._paths[number], self.name(number), self.headers[number]
        out = self._room(header)
        with _mapped(path) as data:
            decode: dict[str, Callable[[], None]] = {
                "JPEG": lambda: jpeg.decode(data, header, out, name),
                "PNG": lambda: png.decode(data, header, out, name),
                "TIFF": lambda: tiff.decode(path, header, out),
            }
            decode[header.kind]()
        self.check_unchanged(number)
        return out

    def _room(self, header: Header) -> Array:
        """Where the pixels go: memory, or for large ones a file on the disk that has no name."""
        if header.size_bytes < SCRATCH_FROM_BYTES:
            return np.empty(header.shape, header.dtype)
        folder = self._scratch if self._scratch and self._scratch.is_dir() else Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(dir=folder) as file:
            try:
                # All of it at once: a write into a mapping that the disk has no room for would end the process.
                if shutil.disk_usage(folder).free < header.size_bytes:
                    raise OSError(errno.ENOSPC, "No space left")
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, header.size_bytes)
                file.truncate(header.size_bytes)
            except OSError as failed:
                raise NoSpace(
                    f"the disk of {folder} has no room for the {header.size_bytes / 2**30:.1f} GiB of a decoded "
                    "photograph; free some space and try again"
                ) from failed
            return np.memmap(file, header.dtype, "r+", shape=header.shape)

    def _forget(self, *, keep: int) -> None:
        """Let go of what was used longest ago, until the rest fits."""
        for number in list(self._decoded):
            held = sum(each.nbytes for each in self._decoded.values() if not isinstance(each, np.memmap))
            files = sum(isinstance(each, np.memmap) for each in self._decoded.values())
            if held <= KEPT_BYTES and files <= 1:
                return
            if number != keep:
                del self._decoded[number]


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as empty:
            raise UnreadableSource(f"{path.name} is empty; upload it again") from empty
        with data:
            yield data


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError as gone:
        raise UnreadableSource(f"{path.name} is gone; upload it again") from gone
    return status.st_size, status.st_mtime_ns
