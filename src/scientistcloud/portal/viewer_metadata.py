"""A form's metadata as the viewer can read them, and what must be decoded for it; no array is opened."""

from __future__ import annotations

import json
from typing import Any

from scientistcloud.portal.forms import OURS, Picture, positive
from scientistcloud.portal.viewer_state import dimension


def only_picture(group_metadata: dict[str, Any], picture: Picture) -> dict[str, Any]:
    """`group_metadata` with the entry of `picture` alone, for a viewer that shows the first entry only.

    Units that it does not know are left out, and scales are made positive: it refuses both.
    """
    rewritten: dict[str, Any] = json.loads(json.dumps(group_metadata))
    ome = rewritten["attributes"]["ome"]
    entry = ome["multiscales"][picture.entry]
    ome["multiscales"] = [entry]
    ome["omero"] = {"channels": list(picture.channels)}
    for axis, known in zip(entry["axes"], picture.axes, strict=True):
        if "unit" in axis and not dimension(known)[1]:
            del axis["unit"]
    for holder in (entry, *entry["datasets"]):
        for transformation in holder.get("coordinateTransformations") or ():
            if transformation.get("type") == "scale":
                transformation["scale"] = [positive(step) for step in transformation["scale"]]
    # Of the whole form, and large: the viewer needs neither.
    rewritten.pop("consolidated_metadata", None)
    rewritten["attributes"].pop(OURS, None)
    return rewritten


def float32_array(metadata: dict[str, Any]) -> dict[str, Any]:
    """The ``zarr.json`` of an array as float32, each of its chunks at an address of its own."""
    sharding = next((each for each in metadata["codecs"] if each["name"] == "sharding_indexed"), None)
    grid = metadata["chunk_grid"]
    chunk = sharding["configuration"]["chunk_shape"] if sharding else grid["configuration"]["chunk_shape"]
    return {
        **metadata,
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN",
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {
                "name": "blosc",
                "configuration": {
                    "cname": "lz4", "clevel": 1, "shuffle": "bitshuffle", "typesize": 4, "blocksize": 0,
                },
            },
        ],
    }  # fmt: skip


def chunk_index(path: str, picture: Picture) -> tuple[str, tuple[int, ...]] | None:
    """Which level's array, and which of its chunks, `path` (relative to the form's root) names; None for none."""
    for level in picture.levels:
        before, found, place = path.partition(f"{level}/c/")
        parts = place.split("/")
        if found and not before and all(part.isascii() and part.isdecimal() and len(part) < 12 for part in parts):
            return level, tuple(map(int, parts))
    return None
