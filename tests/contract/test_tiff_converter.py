"""The contract of converters, on TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from scientistcloud.converters.contract import Converter
from scientistcloud.converters.formats.tiff import TiffConverter
from scientistcloud.omezarr.image import Array
from scientistcloud.testing.converters import ContainmentContract, ConverterContract


class TiffFixtures(ConverterContract):
    @pytest.fixture
    def converter(self) -> Converter:
        return TiffConverter()

    @pytest.fixture
    def values(self) -> Array:
        return np.random.default_rng(1).integers(0, 65536, (5, 70, 90), np.uint16)


class TestContiguousStack(TiffFixtures):
    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        path = tmp_path / "stack.tif"
        tifffile.imwrite(path, values)
        return path


class TestCompressedTilesOfABigEndianBigTiff(TiffFixtures):
    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        path = tmp_path / "tiles.tif"
        options: dict[str, Any] = {
            "tile": (32, 48),
            "compression": "zlib",
            "predictor": True,
            "byteorder": ">",
            "bigtiff": True,
        }
        tifffile.imwrite(path, values, metadata=None, **options)
        return path


class TestPagesInStrips(TiffFixtures):
    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        path = tmp_path / "strips.tif"
        with tifffile.TiffWriter(path) as writer:
            for plane in values:
                writer.write(plane, rowsperstrip=11, compression="lzw", metadata=None, contiguous=False)
        return path


class TestPicture(TiffFixtures):
    @pytest.fixture
    def values(self) -> Array:
        return np.random.default_rng(2).integers(0, 256, (3, 61, 83), np.uint8)

    @pytest.fixture
    def sample(self, tmp_path: Path, values: Array) -> Path:
        path = tmp_path / "picture.tif"
        samples_last = np.ascontiguousarray(values.transpose(1, 2, 0))
        tifffile.imwrite(path, samples_last, photometric="rgb", rowsperstrip=7, metadata=None)
        return path


class TestContainment(ContainmentContract):
    @pytest.fixture
    def converter(self) -> Converter:
        return TiffConverter()

    @pytest.fixture
    def hostile(self, tmp_path: Path) -> Path:
        path = tmp_path / "leading_out.ome.tif"
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" Type="uint8" DimensionOrder="XYZCT" SizeX="8" SizeY="8" SizeZ="1" SizeC="1" '
            'SizeT="1"><Channel ID="C:0"/><TiffData IFD="0"><UUID FileName="../elsewhere.tif">urn:uuid:2</UUID>'
            "</TiffData></Pixels></Image></OME>"
        )
        tifffile.imwrite(path, np.zeros((8, 8), np.uint8), description=xml, metadata=None)
        return path
