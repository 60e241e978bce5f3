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
    # Over a damaged heap of texts of varying length the library itself loops for ever, and a job's time limit must
    # end it: the samples have none.
    damaged_files = 60

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
            file.attrs["default"] = np.bytes_("entry")
            entry = file.create_group("entry")
            entry.attrs["NX_class"] = np.bytes_("NXentry")
            data = entry.create_group("data")
            data.attrs.update({"NX_class": np.bytes_("NXdata"), "signal": np.bytes_("counts")})
            data.attrs["axes"] = np.array([b"energy", b"y", b"x"])
            data.create_dataset("counts", data=values, compression="gzip", chunks=(1, 30, 41))
            data.create_dataset("counts_errors", data=np.sqrt(np.abs(values)))
            for name, length in zip(("energy", "y", "x"), values.shape, strict=True):
                data[name] = np.arange(length + (name == "x"), dtype=np.float32) * 0.5
                data[name].attrs["units"] = np.bytes_("eV" if name == "energy" else "um")
        return tmp_path / "scan.nxs"


class TestScan(Hdf5Fixtures):
    @pytest.fixture
    def frames(self) -> Array:
        return np.random.default_rng(3).poisson(3, (4, 5, 12, 17)).astype(np.int32)

    @pytest.fixture
    def values(self, frames: Array) -> Array:
        return np.asarray(frames.sum(axis=(2, 3)), np.float64)

    @pytest.fixture
    def sample(self, tmp_path: Path, frames: Array) -> Path:
        with h5py.File(tmp_path / "frames.nxs", "w") as file:
            entry = file.create_group("entry")
            entry.attrs["NX_class"] = np.bytes_("NXentry")
            detector = entry.create_group("detector")
            detector.attrs["NX_class"] = np.bytes_("NXdetector")
            data = detector.create_group("plot")
            data.attrs.update({"NX_class": np.bytes_("NXdata"), "signal": np.bytes_("frames")})
            data.create_dataset("frames", data=frames, compression="gzip", chunks=(1, 1, 12, 17))
        return tmp_path / "frames.nxs"


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
