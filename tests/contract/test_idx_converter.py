"""The contract of converters, on IDX that OpenVisus wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from openvisus_files import write_idx
from scientistcloud.converters.contract import Converter
from scientistcloud.converters.formats.idx import IdxConverter
from scientistcloud.omezarr.image import Array
from scientistcloud.testing.converters import ContainmentContract, ConverterContract

VALUES: Array = np.random.default_rng(4).integers(0, 60000, (9, 31, 45), np.uint16)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("idx") / "volume.idx"
    return write_idx(path, {"counts": [VALUES]}, bits_per_block=10, blocks_per_file=4)


@pytest.mark.long  # a process of OpenVisus for each of some forty files
class TestIdx(ConverterContract):
    damaged_files = 6  # a process of its own each

    @pytest.fixture
    def converter(self) -> Converter:
        return IdxConverter()

    @pytest.fixture
    def values(self) -> Array:
        return VALUES

    @pytest.fixture
    def sample(self, tmp_path: Path, written: Path) -> Path:
        shutil.copytree(written.parent, tmp_path, dirs_exist_ok=True)
        return tmp_path / written.name


class TestContainment(ContainmentContract):
    @pytest.fixture
    def converter(self) -> Converter:
        return IdxConverter()

    @pytest.fixture
    def hostile(self, tmp_path: Path) -> Path:
        path = write_idx(tmp_path / "a/leading_out.idx", {"counts": [np.zeros((8, 8), np.uint8)]})
        path.write_text(path.read_text().replace("./leading_out/", str(tmp_path / "elsewhere") + "/"))
        return path
