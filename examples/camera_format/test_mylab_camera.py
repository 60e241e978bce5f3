"""The contract of converters, on recordings of our camera: all the tests that a format needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mylab_camera import HEADER, MAGIC, CameraConverter

from scientistcloud.converters.contract import Converter
from scientistcloud.omezarr.image import Array
from scientistcloud.testing.converters import ConverterContract


class TestCamera(ConverterContract):
    @pytest.fixture
    def converter(self) -> Converter:
        return CameraConverter()

    @pytest.fixture
    def values(self) -> Array:
        return np.random.default_rng(1).integers(0, 4096, (5, 30, 40), np.uint16)

    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        path = tmp_path / "recording.cam"
        path.write_bytes(HEADER.pack(MAGIC, *values.shape, 0.65) + values.astype("<u2").tobytes())
        return path
