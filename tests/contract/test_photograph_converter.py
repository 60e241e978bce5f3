"""The contract of converters, on photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from scientistcloud.converters.contract import Converter
from scientistcloud.converters.formats.photographs import PhotographConverter
from scientistcloud.omezarr.image import Array
from scientistcloud.testing.converters import ConverterContract


class PhotographFixtures(ConverterContract):
    @pytest.fixture
    def converter(self) -> Converter:
        return PhotographConverter()


def scene(height: int = 71, width: int = 93) -> Picture.Image:
    """Smooth enough to look like a photograph, and nowhere the same."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(3).integers(0, 40, (height, width, 3))
    values = np.stack([x * 2, y * 3, x + y], axis=-1) + noise
    return Picture.fromarray(values.clip(0, 255).astype(np.uint8))


class TestJpegOnItsSide(PhotographFixtures):
    """EXIF orientation 6: the camera was held upright."""

    @pytest.fixture
    def sample(self, tmp_path: Path) -> Path:
        path = tmp_path / "upright.jpg"
        exif = Picture.Exif()
        exif[0x0112] = 6
        scene().save(path, quality=90, exif=exif)
        return path

    @pytest.fixture
    def values(self, sample: Path) -> Array:
        with Picture.open(sample) as picture:
            turned = picture.transpose(Picture.Transpose.ROTATE_270)
        return np.ascontiguousarray(np.asarray(turned).transpose(2, 0, 1))


class TestProgressiveJpegInGrey(PhotographFixtures):
    @pytest.fixture
    def sample(self, tmp_path: Path) -> Path:
        path = tmp_path / "grey.jpg"
        scene().convert("L").save(path, quality=80, progressive=True)
        return path

    @pytest.fixture
    def values(self, sample: Path) -> Array:
        with Picture.open(sample) as picture:
            return np.array(picture)


class TestInterlacedPngWithAlpha(PhotographFixtures):
    @pytest.fixture
    def values(self) -> Array:
        return np.random.default_rng(2).integers(0, 256, (4, 61, 83), np.uint8)

    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        path = tmp_path / "alpha.png"
        Picture.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0)), "RGBA").save(path)
        return path
