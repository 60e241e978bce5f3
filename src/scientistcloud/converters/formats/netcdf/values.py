"""Values of a file, read by position; what only a library decodes of netCDF-4 by that, one thread at a time."""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from scientistcloud.converters.formats.netcdf import classic
from scientistcloud.converters.formats.netcdf.variables import Variable
from scientistcloud.converters.hdf5_direct import DirectReader
from scientistcloud.converters.hdf5_links import DAMAGES, damaged
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


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """A variable as the HDF5 data set that it is."""

    path: str
    file: Hdf5Values
    handle: h5py.Dataset
    stored: np.dtype[Any]

    @property
    def outside(self) -> None:
        """netCDF that names other files is refused (`safety.py`)."""

    @property
    def key(self) -> str:
        return self.path

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.handle.shape)


class Hdf5Values:
    """Of a netCDF-4 file: past the library where that can be, else by it, one thread after the other."""

    def __init__(self, path: Path, scratch: Path | None) -> None:
        self.name = path.name
        self._stored: dict[str, _Stored | None] = {}
        self._direct = DirectReader(scratch)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._before = _state(self.fd)
            self._file = h5py.File(path, "r", locking=False)
        except DAMAGES as broken:
            os.close(self.fd)
            raise damaged(path.name, broken) from broken

    @property
    def size(self) -> int:
        return self._before[0]

    def read(self, variable: Variable, index: tuple[slice, ...]) -> Array:
        if _state(self.fd) != self._before:
            raise UnreadableSource(f"{self.name} changed while it was read; convert it again")
        try:
            block = None
            with LIBRARY:
                stored = self._as_stored(variable)
            if stored is not None and all(part.stop > part.start for part in index):
                block = self._direct.read(stored, index)
            if block is None:
                with LIBRARY:
                    block = np.asarray(variable.handle[index or ...])
        except DAMAGES as broken:
            raise UnreadableSource(
                f"{self.name} is damaged: {variable.path} does not decode ({broken}); upload it again"
            ) from broken
        return block.astype(block.dtype.newbyteorder("="), copy=False).view(variable.dtype)

    def _as_stored(self, variable: Variable) -> _Stored | None:
        """None where the data set is not simply the variable: shorter than its dimensions, under another name."""
        if variable.path not in self._stored:
            found = self._file.get(variable.path)
            plain = (
                isinstance(found, h5py.Dataset)
                and tuple(found.shape or ()) == variable.shape != ()
                and found.dtype.kind in "iuf"
                and found.dtype.itemsize == variable.dtype.itemsize
            )
            stored = _Stored(variable.path, self, found, found.dtype) if plain else None
            if stored is not None and self._direct.way(stored) == "library":
                stored = None
            self._stored[variable.path] = stored
        return self._stored[variable.path]

    def close(self) -> None:
        """The library closes its own files."""
        if self.fd >= 0:
            self._direct.close()
            self._file.close()
            os.close(self.fd)
            self.fd = -1


def _state(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns
