"""What a conversion holds does not grow with the data."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONVERT = """
import resource, sys
from pathlib import Path
import numpy as np
from scientistcloud.omezarr.image import Axis, AxisKind, Image, Source
from scientistcloud.omezarr.writer import write
from scientistcloud.tasks.conversion import _return_memory_at_once

depth, kind, memory_mib = int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
shape = (depth, 1024, 1024)
noise = np.random.default_rng(1).integers(0, 4096, 5 << 20).astype("u2")
axes = tuple(Axis(name=name, kind=AxisKind.SPACE, length=n) for name, n in zip("zyx", shape))

class Endless:
    '''As many planes as are asked for, of noise or of ramps; it holds ten MiB.'''
    def describe(self):
        chunk = {"pages": (1, 1024, 1024), "columns": (256, 64, 64)}.get(kind)
        image = Image(name="image", source_name="noise", axes=axes, dtype=np.dtype("u2"), source_chunk=chunk)
        return Source(sensor="TIFF", images=(image,), reader="endless")
    def read(self, image, region):
        n = [s.stop - s.start for s in region]
        if kind == "ramps":
            return np.broadcast_to(np.arange(region[2].start, region[2].stop, dtype="u2"), n)
        out = np.empty(n, "u2")
        for i in range(n[0]):
            start = (region[0].start + i) * 7919 % (1 << 20)
            out[i] = noise[start : start + n[1] * n[2]].reshape(n[1:])
        return out
    def close(self):
        pass

_return_memory_at_once()
store = Path(sys.argv[1])
store.mkdir()
write(Endless(), Endless().describe(), store, memory_bytes=memory_mib << 20)
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) >> 10
print(peak, sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) >> 20)
"""


def peak_mib(store: Path, *, depth: int, source: str, memory_mib: int = 384) -> int:
    """The peak of a process that converts `depth` planes of 2 MiB."""
    command = [sys.executable, "-c", CONVERT, str(store), str(depth), source, str(memory_mib)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    peak, written = map(int, done.stdout.split())
    assert written > depth or source == "ramps"  # MiB: noise of 12 bits a value
    shutil.rmtree(store)
    return peak


@pytest.mark.parametrize("source", ["noise", "pages", "columns"])
def test_a_volume_of_512_mib_is_converted_in_300(source: str, tmp_path: Path) -> None:
    """Whatever the shape of the source's blocks."""
    assert peak_mib(tmp_path / "a", depth=256, source=source) < 300


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "depths"), [("noise", (512, 2048)), ("pages", (512, 2048)), ("ramps", (256, 8192))]
)
def test_memory_is_the_same_for_small_data_and_for_large(
    source: str, depths: tuple[int, int], tmp_path: Path
) -> None:
    """512 MiB against 16 GiB at most."""
    small, large = (peak_mib(tmp_path / str(depth), depth=depth, source=source) for depth in depths)

    assert max(small, large) < (384 if source == "pages" else 320)
    assert large < small + 96  # how many blocks wait at once depends on how busy the machine is
