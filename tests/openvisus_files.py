"""IDX for tests, written and read by OpenVisus' own Python in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from requirements import unavailable

WRITE = """
import json, os, sys
os.putenv("VISUS_HOME", "/dev/null/none"); os.putenv("VISUS_CACHE", "/dev/null/none")
import numpy as np, OpenVisus as ov
said = json.loads(sys.argv[1])
arrays = np.load(said["arrays"])
first = arrays[said["fields"][0][0] + "0"]
dims = list(reversed(first.shape[: said["dims"]]))
options = dict(said["options"])
if "physic_box" in options:
    low, high = zip(*options.pop("physic_box"))
    options["bounds"] = ov.Position(ov.BoxNd(ov.PointNd(*low), ov.PointNd(*high)))
packing = f"default_compression({said['packing']})"
fields = [ov.Field.fromString(f"{name} {dtype} {packing}") for name, dtype in said["fields"]]
db = ov.CreateIdx(url=said["path"], dims=dims, fields=fields, **options)
for name, _ in said["fields"]:
    for step, time in enumerate(said["times"]):
        if f"{name}{step}" in arrays:
            db.write(np.ascontiguousarray(arrays[f"{name}{step}"]), field=name, time=time)
if said["packing"] == "zip":
    db.db.compressDataset(["zip"])
"""
READ = """
import os, sys
os.putenv("VISUS_HOME", "/dev/null/none"); os.putenv("VISUS_CACHE", "/dev/null/none")
import numpy as np, OpenVisus as ov
db = ov.LoadDataset(sys.argv[1])
made = {f"{name}@{time:g}": db.read(field=name, time=time) for name in db.getFields() for time in db.getTimesteps()}
np.savez(sys.argv[2], **made)
"""


def needed() -> None:
    """Skip where OpenVisus is not made for this Python; fail where it should be there."""
    if importlib.util.find_spec("OpenVisus") is not None:
        return
    if sys.version_info >= (3, 14):
        pytest.skip("OpenVisus is not made for Python 3.14")
    unavailable("OpenVisus", "pip install openvisusnogui")


def write_idx(
    path: Path,
    fields: Mapping[str, Sequence[NDArray[Any] | None]],
    *,
    dims: int = 0,
    packing: str = "zip",
    times: Sequence[int] = (),
    bits_per_block: int = 0,
    blocks_per_file: int = 0,
    **options: Any,
) -> Path:
    """Write `fields`, each an array for each of `times` (None: that step is left out), components last.

    `dims` is how many of the axes are of space; 0: all of them.
    """
    needed()
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{name}{step}": a for name, steps in fields.items() for step, a in enumerate(steps) if a is not None}
    np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]  # keywords are arrays here
    described = []
    for name in fields:
        each = arrays[f"{name}0"]
        space = dims or each.ndim
        described.append([name, each.dtype.name + (f"[{each.shape[-1]}]" if each.ndim > space else "")])
    said = {
        "path": str(path),
        "arrays": str(path.with_suffix(".npz")),
        "fields": described,
        "dims": dims or next(iter(arrays.values())).ndim,
        "packing": packing,
        "times": list(times) or [0],
        "options": {
            **options,
            **({"bitsperblock": bits_per_block} if bits_per_block else {}),
            **({"blocksperfile": blocks_per_file} if blocks_per_file else {}),
            **({"time": [times[0], times[-1], "t%03d/"]} if times else {}),
        },
    }
    subprocess.run([sys.executable, "-c", WRITE, json.dumps(said)], check=True, capture_output=True, timeout=120)
    path.with_suffix(".npz").unlink()
    return path


def read_idx(path: Path, scratch: Path) -> dict[str, NDArray[Any]]:
    """Each field at each time (``name@0``), as OpenVisus reads it."""
    needed()
    made = scratch / "read.npz"
    subprocess.run([sys.executable, "-c", READ, str(path), str(made)], check=True, capture_output=True, timeout=120)
    with np.load(made) as arrays:
        return dict(arrays)
