"""`NetcdfReader`: the variables of netCDF files as images."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from scientistcloud.converters.formats.netcdf import classic, safety
from scientistcloud.converters.formats.netcdf.describing import Described, describe
from scientistcloud.converters.formats.netcdf.variables import Variable, walk
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array, Region, Source

# The netCDF library is not safe from several threads, whichever file they read.
_LIBRARY = threading.RLock()


class NetcdfReader:
    """The fields of one or several netCDF files."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._datasets: list[netCDF4.Dataset] = []
        self._values: dict[int, _Classic | _Netcdf4] = {}
        self._images: list[tuple[Described, _Classic | _Netcdf4]] = []
        try:
            self._source = self._open(files)
        except BaseException:
            self.close()
            raise

    def describe(self) -> Source:
        return self._source

    def read(self, image: int, region: Region) -> Array:
        described, values = self._images[image]
        index: list[slice] = [slice(0, 1)] * len(described.variable.dims)
        for dim, at in described.fixed.items():
            index[dim] = slice(at, at + 1)
        for dim, part in zip(described.order, region, strict=True):
            index[dim] = part
        block = values.read(described.variable, tuple(index))
        kept = sorted(described.order)
        block = block.reshape([block.shape[dim] for dim in kept])
        return block.transpose([kept.index(dim) for dim in described.order])

    def close(self) -> None:
        for values in {id(values): values for _, values in self._images}.values():
            values.close()
        self._images = []
        with _LIBRARY:
            while self._datasets:
                self._datasets.pop().close()

    def _open(self, files: Sequence[Path]) -> Source:
        said: list[str] = []
        metadata: dict[str, Any] = {}
        found: list[tuple[Described, _Classic | _Netcdf4]] = []
        plots: list[str] = []
        for path in files:
            values, variables, others, attributes = self._open_file(path)
            metadata[path.name] = attributes
            made, only_plots, warnings = describe(variables, values.read, file=path.name, several=len(files) > 1)
            found += [(each, values) for each in made]
            plots += only_plots
            said += warnings
            if others:
                said.append(f"left out, because they hold no numbers: {', '.join(others)}")
        if not found:
            names = ", ".join(name.rsplit("/", 1)[-1] for name in plots[:12]) or "none"
            raise UnsupportedSource(
                f"{files[0].name} holds a plot, not a picture: each of its variables has one dimension or none "
                f"({names}); send data of two dimensions or more"
            )
        found.sort(key=lambda pair: pair[0].rank, reverse=True)
        self._images = found
        return Source(
            sensor="NETCDF",
            images=tuple(each.image for each, _ in found),
            reader=f"netCDF4 {netCDF4.__version__} with netCDF {netCDF4.__netcdf4libversion__}",
            reason="",
            warnings=tuple(said),
            metadata=metadata,
        )

    def _open_file(self, path: Path) -> tuple[_Classic | _Netcdf4, list[Variable], list[str], dict[str, Any]]:
        with path.open("rb") as file:
            old = file.read(3) == b"CDF"
        if not old:
            safety.check(path)
        values = _Classic(path) if old else _Netcdf4(path)
        with _LIBRARY:
            try:
                dataset = netCDF4.Dataset(os.fspath(path), "r")
                self._datasets.append(dataset)
                variables, others = walk(dataset)
                attributes = {key: dataset.getncattr(key) for key in dataset.ncattrs()}
            except (OSError, RuntimeError, ValueError, LookupError, AttributeError) as broken:
                values.close()
                raise UnreadableSource(
                    f"{path.name} cannot be read as netCDF: {broken}; upload it again"
                ) from broken
        return values, variables, others, attributes


class _Classic:
    """Values of a netCDF-3 file, read by position."""

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
        place = self._places[variable.name]
        out = np.empty([part.stop - part.start for part in index], place.dtype)
        self._fill(out, place.begin, place.shape, index, place)
        return out.astype(place.dtype.newbyteorder("="), copy=False).view(variable.dtype)

    def _fill(
        self, out: Array, start: int, shape: tuple[int, ...], index: tuple[slice, ...], place: classic.Place
    ) -> None:
        """Read the box `index` of an array of `shape` that begins at byte `start`."""
        if not out.size:
            return
        record = place.record_stride is not None and len(shape) == len(place.shape)
        inner = math.prod(shape[1:]) * place.dtype.itemsize
        step = place.record_stride if record and place.record_stride is not None else inner
        whole = all(part == slice(0, length) for part, length in zip(index[1:], shape[1:], strict=True))
        if not shape or (whole and (not record or step == inner)):
            self._read_into(out, start + (index[0].start * step if shape else 0))
        elif len(shape) == 1:
            for number, at in enumerate(range(index[0].start, index[0].stop)):
                self._read_into(out[number : number + 1], start + at * step)
        else:
            for number, at in enumerate(range(index[0].start, index[0].stop)):
                self._fill(out[number], start + at * step, shape[1:], index[1:], place)

    def _read_into(self, out: Array, offset: int) -> None:
        target = memoryview(out.reshape(-1).view(np.uint8))
        got = 0
        while got < len(target):
            count = os.preadv(self._fd, [target[got:]], offset + got)
            if count == 0:
                raise UnreadableSource(
                    f"{self._name} ends at byte {offset + got}, within its values; upload it again"
                )
            got += count

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Netcdf4:
    """Values of a netCDF-4 file, read by the library, one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, variable: Variable, index: tuple[slice, ...]) -> Array:
        with _LIBRARY:
            try:
                block = np.asarray(variable.handle[index or ...])
            except (OSError, RuntimeError, ValueError, IndexError) as broken:
                raise UnreadableSource(
                    f"{self._path.name} is damaged: {variable.path} does not decode ({broken}); upload it again"
                ) from broken
        return block.astype(block.dtype.newbyteorder("="), copy=False).view(variable.dtype)

    def close(self) -> None:
        """Nothing is held here."""


def _state(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns
