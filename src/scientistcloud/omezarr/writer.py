"""The one writer: a reader's images to an OME-Zarr store, all levels in one pass over the source.

A slab is read piece by piece into shards of level 0. A shard that is complete is written and halved; its half goes
into shards of level 1, and so on. Reading, halving, compressing and writing overlap in threads. What is held is
the slab being read, the one being written, and the half full shards of the coarser levels: never the data.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from scientistcloud import __version__
from scientistcloud.errors import InvalidParameters, NoSpace
from scientistcloud.omezarr import metadata
from scientistcloud.omezarr.arrangement import Group, Member, alone, arrange
from scientistcloud.omezarr.codec import Codec, choose
from scientistcloud.omezarr.coordinates import at_level, is_northward
from scientistcloud.omezarr.grid import SHARD_BYTES, Box, Walk, half_full_bytes, shard_of, walk_of
from scientistcloud.omezarr.image import Array, Coordinate, Image, Reader, Reduction, Source
from scientistcloud.omezarr.pyramid import representable
from scientistcloud.omezarr.sampling import decide_reduction, samples_of
from scientistcloud.omezarr.shards import ShardedArray
from scientistcloud.omezarr.statistics import Histogram, Tally, Window, level_for_statistics
from scientistcloud.omezarr.streaming import Progress, Stream, Watcher, cores, sync
from scientistcloud.records import Json

Report = Callable[[float, str], None]
"""``report(fraction, step)``, called several times a second; an exception that it raises ends the writing."""

SLAB_BYTES = 128 << 20
"""A slab is at most so large, however much memory there is; smaller where the source's blocks are."""
HELD_BYTES = 64 << 20
"""Of level 0 so much is held at a time, or one slab: more makes it no faster."""
PIECE_BYTES = 8 << 20
_PROCESS_BYTES = 140 << 20  # the interpreter and the libraries, with every reader loaded
_NO_SPACE = ("ENOSPC", "EDQUOT", "No space left", "Disk quota exceeded")


def silent(fraction: float, step: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """What a person may overrule of the writer's choices."""

    #: At most so many levels; None: until one fits a chunk.
    levels: int | None = None
    #: For every image; None: as the reader says, else from the data.
    reduction: Reduction | None = None
    #: `auto`, `zstd` or `lz4`.
    codec: str = "auto"
    #: The stored value that means "no data", in place of what the source says.
    fill: float | int | None = None
    #: Lengths of chunks and shards along the last axes of every image; None: as `grid` chooses.
    chunk: tuple[int, ...] | None = None
    shard: tuple[int, ...] | None = None


@dataclass(slots=True, kw_only=True)
class Variable:
    """One image as it was written."""

    member: Member
    #: The group's path in the store, and the variable's of level 0.
    group: Group
    reduction: Reduction
    codec: Codec
    #: One for each level.
    chunks: tuple[Box, ...]
    shards: tuple[Box, ...]
    windows: tuple[Window, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    #: Where it stands, if it is an array that is kept beside the images.
    at: str | None = None

    def path(self, level: int = 0) -> str:
        if self.at is not None:
            return self.at
        return "/".join(filter(None, (self.group.path, str(level), self.member.image.name)))

    @property
    def fill(self) -> Any:
        """The value of chunks that are not stored."""
        return next(iter(representable(self.member.image.fill, self.member.image.dtype)), 0)

    def array(self, store: Path, level: int) -> ShardedArray:
        return ShardedArray(
            folder=store / self.path(level),
            chunk=self.chunks[level],
            shard=self.shards[level],
            dtype=self.member.image.dtype,
            codec=self.codec,
            fill=self.fill,
        )

    @property
    def raw_bytes(self) -> int:
        """Of all levels, before compression."""
        return sum(prod(level.shape) for level in self.member.levels) * self.member.image.dtype.itemsize


@dataclass(slots=True, kw_only=True)
class Written:
    """What a store holds."""

    groups: list[Group]
    #: In the order of the source's images, the default one first.
    variables: list[Variable]
    #: What is kept beside the images.
    arrays: list[Variable] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def write(
    reader: Reader,
    source: Source,
    store: Path,
    *,
    options: WriteOptions | None = None,
    memory_bytes: int = 512 << 20,
    report: Report = silent,
    provenance: Callable[[], Json] = dict,
) -> Written:
    """Write the images and arrays of `source` into the new folder `store`; durable when it returns.

    The root's metadata is written last: a folder without it is no store. On any error, the folder holds whatever
    was written so far; who made it removes it.

    Parameters
    ----------
    memory_bytes
        Kept to from about 384 MiB on; what is written does not depend on it.
    provenance
        Called when the data are written; becomes part of the root's attributes under ``scientistcloud``.

    Raises
    ------
    SourceError
        From the reader, or for an image that has no place in OME-NGFF.
    NoSpace
        The disk has not the room that a sample of the data says is needed, or is full.
    """
    options = options or WriteOptions()
    groups, warnings = arrange(_filled(source.images, options.fill), levels=options.levels, chunk=options.chunk)
    progress = Progress(
        total_bytes=sum(
            prod(i.shape) * i.dtype.itemsize for i in (*source.images, *(a.image for a in source.arrays))
        ),
        report=report,
    )
    with disk(store):
        # Arrays first: a reader may make its images of what it sees of them.
        arrays = [_planned_array(reader, source, number, options) for number in range(len(source.arrays))]
        _check_space(store, arrays)
        nodes = _write_arrays(reader, source, store, arrays, memory_bytes=memory_bytes, progress=progress)
        variables = [_planned(reader, group, member, options) for group in groups for member in group.members]
        variables.sort(key=lambda variable: variable.member.index)
        _check_space(store, variables)
        nodes |= _write_skeleton(store, groups, variables)
        _write_values(reader, store, variables, memory_bytes=memory_bytes, progress=progress)
        report(0.98, "metadata")
        ours = _provenance(source, variables, arrays, warnings, provenance())
        _write_metadata(store, groups, variables, nodes, ours)
        _sync(store)
    return Written(groups=groups, variables=variables, arrays=arrays, warnings=warnings)


def _planned(reader: Reader, group: Group, member: Member, options: WriteOptions) -> Variable:
    samples = samples_of(reader, member)
    chunks = tuple(
        tuple(min(c, n) for c, n in zip(member.chunk, level.shape, strict=True)) for level in member.levels
    )
    finest = shard_of(member.image.shape, chunks[0], item_bytes=member.image.dtype.itemsize)
    if options.shard is not None:
        finest = _asked_shard(finest, options.shard, chunks[0])
    return Variable(
        member=member,
        group=group,
        reduction=options.reduction or decide_reduction(member.image, samples),
        codec=choose(samples, options.codec),
        chunks=chunks,
        shards=tuple(
            finest
            if k == 0
            else shard_of(level.shape, chunk, item_bytes=member.image.dtype.itemsize, within=finest)
            for k, (level, chunk) in enumerate(zip(member.levels, chunks, strict=True))
        ),
    )


def _planned_array(reader: Reader, source: Source, number: int, options: WriteOptions) -> Variable:
    array = source.arrays[number]
    group = alone(array.image, len(source.images) + number, chunk=array.chunk, path=array.path.rpartition("/")[0])
    (member,) = group.members
    return Variable(
        member=member,
        group=group,
        reduction=Reduction.NEAREST,
        codec=choose(samples_of(reader, member), options.codec),
        chunks=(array.chunk,),
        shards=(array.shard,),
        at=array.path,
    )


def _filled(images: Sequence[Image], fill: float | None) -> list[Image]:
    """`images` with `fill` for missing values, those whose pixels can have it; the first has to be one of them."""
    if fill is None:
        return list(images)

    def can(image: Image) -> bool:
        return bool(representable([fill], image.dtype)) or (fill != fill and image.dtype.kind in "fc")

    if not can(images[0]):
        raise InvalidParameters(f"no value of {images[0].name} can be {fill:g}: it holds {images[0].dtype}")
    return [_with_fill(image, fill) if can(image) else image for image in images]


def _with_fill(image: Image, fill: float) -> Image:
    attributes = {key: value for key, value in image.attributes.items() if key != "missing_value"}
    return replace(image, fill=(fill,), attributes={**attributes, "_FillValue": fill})


def _asked_shard(chosen: Box, asked: tuple[int, ...], chunk: Box) -> Box:
    shard = (*chosen[: -len(asked)], *asked[-len(chosen) :])
    shard = tuple(max(s, c) for s, c in zip(shard, chunk, strict=True))
    if any(s % c for s, c in zip(shard, chunk, strict=True)):
        raise InvalidParameters(
            f"a shard of {_by(shard)} holds no whole chunks of {_by(chunk)}; make it a multiple"
        )
    return shard


def _by(box: Box) -> str:
    return " × ".join(map(str, box))


# -- the disk ------------------------------------------------------------------------------------


@contextmanager
def disk(store: Path) -> Iterator[None]:
    """Says in our words that the disk is full, whoever of us, Python and tensorstore noticed it."""
    try:
        yield
    except NoSpace:
        raise
    except Exception as failed:
        if any(sign in f"{failed!r} {failed}" for sign in _NO_SPACE):
            raise NoSpace(
                f"the disk is full: {store.name} could not be written; free some space and try again"
            ) from failed
        raise


def _check_space(store: Path, variables: list[Variable]) -> None:
    needed = sum(int(each.raw_bytes * min(1.05, each.codec.ratio * 1.1)) for each in variables)
    free = shutil.disk_usage(store.parent).free
    if needed > free:
        raise NoSpace(
            f"the disk has {free / 2**30:.1f} GiB left and {store.name} needs about {needed / 2**30:.1f} GiB; "
            "free some space and try again"
        )


def _sync(store: Path) -> None:
    """Make the store durable. Its shards are already, which makes it quick; metadata and folders follow."""
    for folder, _, names in os.walk(store, topdown=False):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))


def _write_json(path: Path, document: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1), encoding="utf-8")


# -- the parts -----------------------------------------------------------------------------------


def _write_skeleton(store: Path, groups: list[Group], variables: list[Variable]) -> dict[str, dict[str, Any]]:
    """Write everything but values, and the attributes of groups with multiscales; path -> document."""
    nodes: dict[str, dict[str, Any]] = {}
    for group in groups:
        for k in range(group.level_count):
            path = "/".join(filter(None, (group.path, str(k))))
            nodes |= _group_nodes(store, path, at_level(group.coordinates, group.factors(k)))
    for variable in variables:
        nodes |= _array_nodes(variable)
    for path, document in nodes.items():
        _write_json(store / path / "zarr.json", document)
    return nodes


def _group_nodes(store: Path, path: str, coordinates: Iterable[Coordinate]) -> dict[str, dict[str, Any]]:
    """The group `path` with its coordinates, whose values are written."""
    nodes = {path: metadata.group_document({"Conventions": "CF-1.11"})}
    for coordinate in coordinates:
        nodes[f"{path}/{coordinate.name}"] = _write_coordinate(store / path, coordinate)
    return nodes


def _array_nodes(variable: Variable) -> dict[str, dict[str, Any]]:
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


def _write_arrays(
    reader: Reader, source: Source, store: Path, arrays: list[Variable], *, memory_bytes: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Write what is kept beside the images, while the reader sees it; path -> document."""
    nodes: dict[str, dict[str, Any]] = {}
    for variable, array in zip(arrays, source.arrays, strict=True):
        nodes |= _group_nodes(store, variable.group.path, variable.group.coordinates.values())
        nodes |= _array_nodes(variable)
        _write_json(store / array.path / "zarr.json", nodes[array.path])
        _write_json(store / variable.group.path / "zarr.json", nodes[variable.group.path])
        progress.step = f"writing {array.path}"
        walk, held_bytes = _budgeted(variable, memory_bytes)
        stream = _stream(reader, store, variable, Watcher(array.seen), tally_level=0)
        stream.run(replace(walk, in_order=True), held_bytes, progress=progress)
    return nodes


def _write_coordinate(folder: Path, coordinate: Coordinate) -> dict[str, Any]:
    values: Array = np.asarray(coordinate.values)
    values = values.astype(values.dtype.newbyteorder("="), order="C", copy=False)
    longest = 1 << 20 if values.ndim == 1 else 1024
    document = metadata.array_document(
        shape=values.shape,
        dtype=values.dtype,
        chunk=[min(n, longest) for n in values.shape],
        shard=None,
        codec=Codec("zstd"),
        dims=coordinate.dims,
        fill=0,
        attributes=metadata.coordinate_attributes(coordinate),
    )
    _write_json(folder / coordinate.name / "zarr.json", document)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / coordinate.name)}}
    ts.open(spec, open=True).result().write(values).result()
    return document


def _write_values(
    reader: Reader, store: Path, variables: list[Variable], *, memory_bytes: int, progress: Progress
) -> None:
    for number, variable in enumerate(variables, 1):
        image, levels = variable.member.image, variable.member.levels
        progress.step = f"writing {image.name}" + (f" ({number} of {len(variables)})" if len(variables) > 1 else "")
        statistics = level_for_statistics(levels)
        tally = Tally(image, levels[statistics])
        stream = _stream(reader, store, variable, tally, tally_level=statistics)
        stream.run(*_budgeted(variable, memory_bytes), progress=progress)
        variable.windows, variable.histograms = tally.windows(), tally.histograms()


def _stream(reader: Reader, store: Path, variable: Variable, tally: Tally | Watcher, *, tally_level: int) -> Stream:
    return Stream(
        read=partial(reader.read, variable.member.index),
        arrays=[variable.array(store, k) for k in range(len(variable.member.levels))],
        levels=variable.member.levels,
        reduction=variable.reduction,
        fill=variable.member.image.fill,
        tally=tally,
        tally_level=tally_level,
    )


def _budgeted(variable: Variable, memory_bytes: int) -> tuple[Walk, int]:
    """How the image is walked, and how many bytes of its levels may be held meanwhile.

    The largest slab is taken that leaves room for the half full shards of the coarser levels, and for what each
    core reads and compresses; at least one shard, whatever the memory.
    """
    image, item = variable.member.image, variable.member.image.dtype.itemsize
    piece_bytes = max(1 << 20, min(PIECE_BYTES, memory_bytes // 32))
    # A core holds a piece as it is read and as it is decoded, a shard's half, a chunk and the same compressed.
    scratch_bytes = 2 * piece_bytes + SHARD_BYTES // 4 + 3 * prod(variable.chunks[0]) * item
    room = memory_bytes - _PROCESS_BYTES - cores() * scratch_bytes
    slab_bytes = SLAB_BYTES
    while True:
        walk = walk_of(
            image.shape,
            variable.shards[0],
            image.source_chunk,
            item_bytes=item,
            slab_bytes=slab_bytes,
            piece_bytes=piece_bytes,
        )
        half_full = half_full_bytes(walk.slab, variable.member.levels, variable.shards, item_bytes=item)
        held = prod(walk.slab) * item + half_full
        if held <= room or walk.slab == variable.shards[0]:
            return walk, max(held, min(HELD_BYTES + half_full, room))
        slab_bytes = prod(walk.slab) * item // 2


def _provenance(
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


def _write_metadata(
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
            _write_json(store / group.path / "zarr.json", nodes[group.path])
    if len(groups) > 1:
        nodes["OME"] = metadata.group_document({"ome": metadata.ome_series_list(len(groups))})
        _write_json(store / "OME" / "zarr.json", nodes["OME"])
        ome = metadata.ome_of_series()
    root = metadata.group_document({"ome": ome, metadata.OURS: ours})
    _write_json(store / "zarr.json", metadata.consolidated(root, nodes))
