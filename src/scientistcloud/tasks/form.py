"""The form of a converted data set, as its record names it and `convert --json` prints it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scientistcloud import __version__
from scientistcloud.omezarr import metadata
from scientistcloud.omezarr.image import Image, Source
from scientistcloud.omezarr.plan import Variable
from scientistcloud.omezarr.writer import Written


def form_of(source: Source, written: Written, store: Path, preview: Path | None) -> dict[str, Any]:
    first = written.variables[0]
    image = first.member.image
    files = [path for path in store.rglob("*") if path.is_file()]
    described = metadata.json_value(
        {
            "format": f"OME-Zarr {metadata.NGFF_VERSION}",
            "version": __version__,
            "sensor": source.sensor,
            "reader": source.reader,
            "reason": source.reason,
            **described_variable(first),
            "transposed": image.transposed,
            "units": image.attributes.get("units"),
            "scale_factor": image.attributes.get("scale_factor"),
            "add_offset": image.attributes.get("add_offset"),
            "channels": [
                {"label": channel.label, "color": channel.color}
                for channel in metadata.channels_of(image, len(first.windows))
            ],
            "rgb": image.rgb and bool(image.channels),
            "window": first.windows[0].as_json(),
            "histogram": first.histograms[0].as_json(),
            "images": [described_variable(variable) for variable in written.variables],
            "arrays": [{"path": variable.path(), **_kept(variable)} for variable in written.arrays],
            "size_bytes": sum(path.stat().st_size for path in files),
            "files": len(files),
            "preview": preview.name if preview else None,
            "warnings": [*source.warnings, *written.warnings],
            "keywords": metadata.keywords(source.metadata),
        }
    )
    assert isinstance(described, dict)
    return described


def _kept(variable: Variable) -> dict[str, Any]:
    described = described_variable(variable)
    return {key: described[key] for key in ("source_array", "axes", "shape", "dtype", "chunk", "shard", "codec")}


def described_variable(variable: Variable) -> dict[str, Any]:
    image: Image = variable.member.image
    return {
        "group": variable.group.path,
        "variable": image.name,
        "source_array": image.source_name,
        "axes": [
            {
                "name": axis.name,
                "kind": axis.kind.value,
                "length": axis.length,
                "spacing": axis.spacing,
                "origin": axis.origin,
                "unit": axis.unit,
            }
            for axis in image.axes
        ],
        "shape": image.shape,
        "dtype": image.dtype.name,
        "levels": [
            {"path": variable.path(k), "shape": level.shape, "factors": level.factors}
            for k, level in enumerate(variable.member.levels)
        ],
        "chunk": variable.chunks[0],
        "shard": variable.shards[0],
        "codec": str(variable.codec),
        "reduction": variable.reduction.value,
    }
