"""Values of a file: of netCDF-3 read by position, of netCDF-4 by the library, one thread at a time."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path
from typing import Protocol

import numpy as np

from scientistcloud.converters.formats.netcdf import classic
from scientistcloud.converters.formats.netcdf.variables import Variable
from scientistcloud.errors import UnreadableSource
from scientistcloud.omezarr.image import Array

LIBRARY = threading.RLock()
"""The netCDF library is not safe from several threads, whichever file they read."""


class Values(Protocol):
    """The values of one file's variables."""

    def read(self, variable: Variable, index: tuple[slice, ...]) -> Array:
        """As stored, in native byte order. Raises `UnreadableSource`."""

    def close(self) -> None:
        """Let go of the file."""


class ClassicValues:
    """Of a netCDF-3 file. Safe from several threads."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._places = classic.places(self._fd, path.name)
            self._state = _state(self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def read(self, variable: Variable, index: tuple[slice, ...]) -> Array:
        if _state(self._fd) != self._state:
            raise UnreadableSource(f"{self._name} changed while it was read; convert it again")
        place = self._places.get(variable.name)
        if place is None or place.shape != variable.shape:
            raise UnreadableSource(f"{self._name} is damaged: its header contradicts itself; upload it again")
        out = np.empty([part.stop - part.start for part in index], place.dtype)
        if out.size:
            self._fill(out, place.begin, place.shape, index, record_stride=place.record_stride, place=place)
        if not place.dtype.isnative:
            out = out.byteswap(inplace=True).view(place.dtype.newbyteorder("="))
        return out.view(variable.dtype)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _fill(
        self,
        out: Array,
        start: int,
        shape: tuple[int, ...],
        index: tuple[slice, ...],
        *,
        record_stride: int | None,
        place: classic.Place,
    ) -> None:
        """Read the box `index` of an array of `shape` that begins at byte `start`, in the longest pieces."""
        inner = math.prod(shape[1:]) * place.dtype.itemsize
        step = inner if record_stride is None else record_stride
        whole = all(part == slice(0, length) for part, length in zip(index[1:], shape[1:], strict=True))
        if not shape:
            self._read_into(out, start)
        elif whole and step == inner:
            self._read_into(out, start + index[0].start * step)
        else:
            for number, at in enumerate(range(index[0].start, index[0].stop)):
                below = out[number : number + 1].reshape(out.shape[1:])
                self._fill(below, start + at * step, shape[1:], index[1:], record_stride=None, place=place)

    def _read_into(self, out: Array, offset: int) -> None:
        target = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # arrays are buffers
        got = 0
        while got < len(target):
            count = os.preadv(self._fd, [target[got:]], offset + got)
            if count == 0:
                raise UnreadableSource(
                    f"{self._name} ends at byte {offset + got}, within its values; upload it again"
                )
            got += count


class LibraryValues:
    """Of a netCDF-4 file. Safe from several threads, which wait for each other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = path.stat()

    def read(self, variable: Variable, index: tuple[slice, ...]) -> Array:
        now = self._path.stat()
        if (now.st_size, now.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns):
            raise UnreadableSource(f"{self._path.name} changed while it was read; convert it again")
        with LIBRARY:
            try:
                block = np.asarray(variable.handle[index or ...])
            except (OSError, RuntimeError, ValueError, IndexError, MemoryError) as broken:
                raise UnreadableSource(
                    f"{self._path.name} is damaged: {variable.path} does not decode ({broken}); upload it again"
                ) from broken
        return block.astype(block.dtype.newbyteorder("="), copy=False).view(variable.dtype)

    def close(self) -> None:
        """The library closes its own files."""


def _state(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns
