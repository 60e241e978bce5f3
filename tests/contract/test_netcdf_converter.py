"""The contract of converters, on netCDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest

from scientistcloud.converters.contract import Converter
from scientistcloud.converters.formats.netcdf import NetcdfConverter
from scientistcloud.omezarr.image import Array
from scientistcloud.testing.converters import ContainmentContract, ConverterContract


def write(path: Path, values: Array, form: Any, **storage: Any) -> Path:
    file: Any
    with netCDF4.Dataset(path, "w", format=form) as file:
        for name, length in zip(("time", "lat", "lon"), values.shape, strict=True):
            file.createDimension(name, None if name == "time" else length)
            coordinate = file.createVariable(name, "f4", (name,))
            coordinate[:] = np.arange(length) * 0.5
        variable = file.createVariable("pr", values.dtype, ("time", "lat", "lon"), **storage)
        variable.units = "kg m-2 s-1"
        variable[:] = values
        other = file.createVariable("tas", "i2", ("time", "lat", "lon"))
        other[:] = 7
    return path


class NetcdfFixtures(ConverterContract):
    @pytest.fixture
    def converter(self) -> Converter:
        return NetcdfConverter()

    @pytest.fixture
    def values(self) -> Array:
        return np.random.default_rng(3).normal(size=(4, 30, 41)).astype(np.float32)


class TestClassic(NetcdfFixtures):
    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        return write(tmp_path / "classic.nc", values, "NETCDF3_CLASSIC")


class TestClassicOf64BitData(NetcdfFixtures):
    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        return write(tmp_path / "cdf5.nc", values, "NETCDF3_64BIT_DATA")


class TestNetcdf4(NetcdfFixtures):
    damaged_files = 20  # the library itself loops for ever over some; a job's time limit ends those

    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        storage: dict[str, Any] = {"zlib": True, "shuffle": True, "fletcher32": True, "chunksizes": (1, 16, 16)}
        return write(tmp_path / "chunks.nc", values, "NETCDF4", **storage)


class TestContainment(ContainmentContract):
    @pytest.fixture
    def converter(self) -> Converter:
        return NetcdfConverter()

    @pytest.fixture
    def hostile(self, tmp_path: Path) -> Path:
        path = write(tmp_path / "linked.nc", np.zeros((2, 3, 4), np.float32), "NETCDF4")
        with h5py.File(path, "r+") as file:
            file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
        return path
