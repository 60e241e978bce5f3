"""`NetcdfReader`: the variables of netCDF files as images."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4

from scientistcloud.converters.choice import check_plausible, rank, reason
from scientistcloud.converters.formats.netcdf import safety
from scientistcloud.converters.formats.netcdf.describing import Described, Describer, named
from scientistcloud.converters.formats.netcdf.values import LIBRARY, ClassicValues, Hdf5Values, Values
from scientistcloud.converters.formats.netcdf.variables import Variable, walk
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array, Region, Source


class NetcdfReader:
    """The fields of one or several netCDF files."""

    def __init__(self, files: Sequence[Path], scratch: Path | None) -> None:
        self._scratch = scratch
        self._datasets: list[netCDF4.Dataset] = []
        self._values: list[Values] = []
        self._images: list[tuple[Described, Values]] = []
        try:
            self._source = self._open(files)
        except BaseException:
            self.close()
            raise

    def describe(self) -> Source:
        return self._source

    def read(self, image: int, region: Region) -> Array:
        described, values = self._images[image]
        index = [slice(0, 1)] * len(described.variable.dims)
        for dim, at in described.fixed.items():
            index[dim] = slice(at, at + 1)
        for dim, part in zip(described.order, region, strict=True):
            index[dim] = part
        block = values.read(described.variable, tuple(index))
        kept = sorted(described.order)
        block = block.reshape([block.shape[dim] for dim in kept])
        return block.transpose([kept.index(dim) for dim in described.order])

    def close(self) -> None:
        while self._values:
            self._values.pop().close()
        with LIBRARY:
            while self._datasets:
                self._datasets.pop().close()

    def _open(self, files: Sequence[Path]) -> Source:
        found: list[tuple[Described, Values, str]] = []
        plots: list[str] = []
        said: list[str] = []
        metadata: dict[str, Any] = {}
        for path in files:
            values, variables, others, metadata[path.name] = self._open_file(path)
            here = Describer(variables, values.read).describe()
            found += [(each, values, path.stem) for each in here.images]
            plots += here.plots
            said += here.warnings
            if others:
                said.append(f"{path.name}: left out, because they hold no numbers: {', '.join(others)}")
        if not found:
            names = ", ".join(name.strip("/") for name in plots[:12]) or "there is none with numbers"
            raise UnsupportedSource(
                f"{files[0].name} holds a plot, not a picture: none of its variables is longer than 1 along two "
                f"dimensions ({names}); send a file with a field of at least two"
            )
        found.sort(key=lambda each: rank(each[0].image), reverse=True)  # stable: the first in the file stays first
        self._images = [(described, values) for described, values, _ in found]
        several = len(files) > 1
        images = named(
            [described.image for described, _, _ in found],
            [f"{stem if several else ''}{described.variable.path}" for described, _, stem in found],
        )
        if several:
            images = [
                replace(image, source_name=f"{stem}:{image.source_name}")
                for image, (_, _, stem) in zip(images, found, strict=True)
            ]
        return Source(
            sensor="NETCDF",
            images=tuple(images),
            reader=f"netCDF4 {netCDF4.__version__}, netCDF {netCDF4.__netcdf4libversion__}",
            reason=reason(images),
            warnings=tuple(said),
            metadata=metadata,
        )

    def _open_file(self, path: Path) -> tuple[Values, list[Variable], list[str], dict[str, Any]]:
        with path.open("rb") as file:
            old = file.read(3) == b"CDF"
        if not old:
            safety.check(path)
        values = ClassicValues(path) if old else Hdf5Values(path, self._scratch)
        self._values.append(values)
        with LIBRARY:
            try:
                dataset = netCDF4.Dataset(os.fspath(path), "r")
                self._datasets.append(dataset)
                variables, others = walk(dataset)
                attributes = {key: _plain(dataset.getncattr(key)) for key in dataset.ncattrs()}
            except (OSError, RuntimeError, ValueError, LookupError, AttributeError) as broken:
                raise UnreadableSource(
                    f"{path.name} cannot be read as netCDF: {broken}; upload it again"
                ) from broken
        size = path.stat().st_size
        for variable in variables:
            claimed = math.prod(variable.shape) * variable.dtype.itemsize
            check_plausible(path.name, f"{variable.path} {variable.shape}", claimed, size)
        return values, variables, others, {"format": dataset.data_model, "attributes": attributes}


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
