"""The contract of converters, on HDF5 and NeXus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scientistcloud.converters.contract import Converter
from scientistcloud.converters.formats.hdf5 import Hdf5Converter
from scientistcloud.omezarr.image import Array
from scientistcloud.testing.converters import ContainmentContract, ConverterContract


class Hdf5Fixtures(ConverterContract):
    damaged_files = 60  # the library itself loops for ever over a few in a thousand; a job's time limit ends those

    @pytest.fixture
    def converter(self) -> Converter:
        return Hdf5Converter()

    @pytest.fixture
    def values(self) -> Array:
        return np.random.default_rng(3).normal(size=(4, 30, 41)).astype(np.float32)


class TestContiguous(Hdf5Fixtures):
    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        with h5py.File(tmp_path / "plain.h5", "w") as file:
            file["a/counts"] = values
            file["a/small"] = values[0].astype(">i4")
        return tmp_path / "plain.h5"


class TestChunked(Hdf5Fixtures):
    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        storage: dict[str, Any] = {
            "compression": "gzip",
            "shuffle": True,
            "fletcher32": True,
            "chunks": (3, 16, 16),
        }
        with h5py.File(tmp_path / "chunks.h5", "w") as file:
            file.create_dataset("counts", data=values, **storage)
        return tmp_path / "chunks.h5"


class TestByTheLibrary(Hdf5Fixtures):
    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        with h5py.File(tmp_path / "lzf.h5", "w") as file:
            file.create_dataset("counts", data=values, compression="lzf", fletcher32=True, chunks=(3, 16, 16))
        return tmp_path / "lzf.h5"


class TestNexus(Hdf5Fixtures):
    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        with h5py.File(tmp_path / "scan.nxs", "w", userblock_size=512) as file:
            file.attrs["default"] = "entry"
            entry = file.create_group("entry")
            entry.attrs["NX_class"] = "NXentry"
            data = entry.create_group("data")
            data.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["energy", "y", "x"]})
            data.create_dataset("counts", data=values, compression="gzip", chunks=(1, 30, 41))
            data.create_dataset("counts_errors", data=np.sqrt(np.abs(values)))
            for name, length in zip(("energy", "y", "x"), values.shape, strict=True):
                data[name] = np.arange(length + (name == "x"), dtype=np.float32) * 0.5
                data[name].attrs["units"] = "eV" if name == "energy" else "um"
        return tmp_path / "scan.nxs"


class TestContainment(ContainmentContract):
    @pytest.fixture
    def converter(self) -> Converter:
        return Hdf5Converter()

    @pytest.fixture
    def hostile(self, tmp_path: Path) -> Path:
        with h5py.File(tmp_path / "linked.h5", "w") as file:
            file["counts"] = np.zeros((4, 5))
            file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
        return tmp_path / "linked.h5"
