"""What a conversion holds does not grow with the photograph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

CONVERT = """
import sys, threading
from pathlib import Path
from scientistcloud.tasks.conversion import convert

peak, done = [0], threading.Event()

def watch():
    while not done.wait(0.02):
        held = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
        peak[0] = max(peak[0], int(held.split()[1]) >> 10)

watcher = threading.Thread(target=watch)
watcher.start()
try:
    form = convert(Path(sys.argv[1]), Path(sys.argv[2]), memory_bytes=384 << 20)
finally:
    done.set()
    watcher.join()
print(peak[0], *form["shape"])
"""


@pytest.mark.long
@pytest.mark.parametrize("name", ["survey.jpg", "survey.png"])
def test_a_photograph_of_600_mib_is_converted_within_384(name: str, tmp_path: Path) -> None:
    height, width = 12_000, 17_500
    exif = Picture.Exif()
    exif[0x0112] = 8
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[...] = np.arange(width, dtype=np.uint16)[:, None] // 70
    pixels += np.random.default_rng(1).integers(0, 4, (height, width, 1), np.uint8)
    Picture.fromarray(pixels).save(tmp_path / name, exif=exif, quality=90, compress_level=1)
    del pixels

    command = [sys.executable, "-c", CONVERT, str(tmp_path / name), str(tmp_path / "a.ome.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)

    peak, *shape = map(int, done.stdout.split())
    assert shape == [3, width, height]
    assert peak < 384
