"""The metadata of a store as files: its groups, arrays and coordinates, and the root, which makes it one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from scientistcloud import __version__
from scientistcloud.omezarr import metadata
from scientistcloud.omezarr.arrangement import Group
from scientistcloud.omezarr.codec import Codec
from scientistcloud.omezarr.coordinates import at_level, is_northward
from scientistcloud.omezarr.image import Array, Coordinate, Source
from scientistcloud.omezarr.plan import Variable
from scientistcloud.omezarr.shards import write_chunks
from scientistcloud.records import Json


def write_skeleton(store: Path, groups: list[Group], variables: list[Variable]) -> dict[str, dict[str, Any]]:
    """Write everything but values, and the attributes of groups with multiscales; path -> document."""
    nodes: dict[str, dict[str, Any]] = {}
    for group in groups:
        for k in range(group.level_count):
            path = "/".join(filter(None, (group.path, str(k))))
            nodes |= group_nodes(store, path, at_level(group.coordinates, group.factors(k)))
    for path, document in nodes.items():
        write_json(store / path / "zarr.json", document)
    for variable in variables:
        nodes |= write_arrays(store, variable)
    return nodes


def write_arrays(store: Path, variable: Variable) -> dict[str, dict[str, Any]]:
    """Write what describes the arrays of a variable, one for each level; path -> document."""
    nodes = array_nodes(variable)
    for path, document in nodes.items():
        write_json(store / path / "zarr.json", document)
    return nodes


def group_nodes(store: Path, path: str, coordinates: Iterable[Coordinate]) -> dict[str, dict[str, Any]]:
    """The group `path` with its coordinates, whose values are written."""
    nodes = {path: metadata.group_document({"Conventions": "CF-1.11"})}
    for coordinate in coordinates:
        nodes[f"{path}/{coordinate.name}"] = _write_coordinate(store / path, coordinate)
    return nodes


def array_nodes(variable: Variable) -> dict[str, dict[str, Any]]:
    image = variable.member.image
    attributes = metadata.cf_attributes(image, variable.group)
    return {
        variable.path(k): metadata.array_document(
            shape=level.shape,
            dtype=image.dtype,
            chunk=variable.chunks[k],
            shard=variable.shards[k],
            codec=variable.codec,
            dims=[axis.name for axis in image.axes],
            fill=variable.fill,
            attributes=attributes,
        )
        for k, level in enumerate(variable.member.levels)
    }


def _write_coordinate(folder: Path, coordinate: Coordinate) -> dict[str, Any]:
    values: Array = np.asarray(coordinate.values)
    values = values.astype(values.dtype.newbyteorder("="), order="C", copy=False)
    longest = 1 << 20 if values.ndim == 1 else 1024
    chunk = tuple(min(n, longest) for n in values.shape)
    codec = Codec("zstd")
    document = metadata.array_document(
        shape=values.shape,
        dtype=values.dtype,
        chunk=chunk,
        shard=None,
        codec=codec,
        dims=coordinate.dims,
        fill=0,
        attributes=metadata.coordinate_attributes(coordinate),
    )
    write_json(folder / coordinate.name / "zarr.json", document)
    write_chunks(folder / coordinate.name, values, chunk=chunk, codec=codec)
    return document


def provenance_of(
    source: Source, variables: list[Variable], arrays: list[Variable], warnings: list[str], given: Json
) -> dict[str, Any]:
    return {
        "version": __version__,
        "sensor": source.sensor,
        "reader": source.reader,
        "reason": source.reason,
        "arrays": {
            variable.path(): {
                "source": variable.member.image.source_name,
                "reduction": variable.reduction.value,
                "codec": str(variable.codec),
                "transposed": metadata.json_value(variable.member.image.transposed),
            }
            for variable in variables
        },
        "plain_arrays": {
            each.path(): {"source": each.member.image.source_name, "codec": str(each.codec)} for each in arrays
        },
        "warnings": [*source.warnings, *warnings],
        "source_metadata": metadata.limited(source.metadata),
        **given,
    }


def write_metadata(
    store: Path, groups: list[Group], variables: list[Variable], nodes: dict[str, dict[str, Any]], ours: Json
) -> None:
    """Write the groups that hold multiscales, the root last."""
    for group in groups:
        of_group = {variable.member.index: variable for variable in variables if variable.group is group}
        entries = [
            metadata.multiscale(
                member,
                each.reduction,
                each.windows,
                each.histograms,
                northward=is_northward(member.image, group.coordinates),
            )
            for member in group.members
            for each in [of_group[member.index]]
        ]
        ome = metadata.ome_of_group(entries, entries[0]["omero"])
        if group.path:
            nodes[group.path] = metadata.group_document({"ome": ome})
            write_json(store / group.path / "zarr.json", nodes[group.path])
    if len(groups) > 1:
        nodes["OME"] = metadata.group_document({"ome": metadata.ome_series_list(len(groups))})
        write_json(store / "OME" / "zarr.json", nodes["OME"])
        ome = metadata.ome_of_series()
    root = metadata.group_document({"ome": ome, metadata.OURS: ours})
    write_json(store / "zarr.json", metadata.consolidated(root, nodes))


def write_json(path: Path, document: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1), encoding="utf-8")
