"""The one writer: a reader's images to an OME-Zarr store, all levels in one pass over the source.

A slab is read piece by piece into shards of level 0. A shard that is complete is written and halved; its half goes
into shards of level 1, and so on. Reading, halving, compressing and writing overlap in threads. What is held is
the slab being read, the one being written, and the half full shards of the coarser levels: never the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from scientistcloud.omezarr.arrangement import Group, Member, arrange
from scientistcloud.omezarr.budget import budgeted
from scientistcloud.omezarr.disk import check_space, disk, sync_all
from scientistcloud.omezarr.image import Reader, Source
from scientistcloud.omezarr.nodes import (
    array_nodes,
    group_nodes,
    provenance_of,
    write_arrays,
    write_json,
    write_metadata,
    write_skeleton,
)
from scientistcloud.omezarr.plan import Variable, WriteOptions, filled, planned, planned_array
from scientistcloud.omezarr.statistics import Tally, level_for_statistics
from scientistcloud.omezarr.streaming import Progress, Stream, Watcher
from scientistcloud.records import Json

Report = Callable[[float, str], None]
"""``report(fraction, step)``, called several times a second; an exception that it raises ends the writing."""


def silent(fraction: float, step: str) -> None:
    """Report to nobody."""


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
    groups, warnings = arrange(filled(source.images, options.fill), levels=options.levels, chunk=options.chunk)
    progress = Progress(
        total_bytes=sum(
            prod(i.shape) * i.dtype.itemsize for i in (*source.images, *(a.image for a in source.arrays))
        ),
        report=report,
    )
    with disk(store):
        # Arrays first: a reader may make its images of what it sees of them.
        arrays = [planned_array(reader, source, number, options) for number in range(len(source.arrays))]
        check_space(store, sum(each.stored_bytes for each in arrays))
        nodes = _write_arrays(reader, source, store, arrays, memory_bytes=memory_bytes, progress=progress)
        members = sorted(
            ((group, member) for group in groups for member in group.members), key=lambda each: _turn(each[1])
        )
        together = [planned(reader, *each, options) for each in members if each[1].image.series is None]
        check_space(store, sum(each.stored_bytes for each in together))
        nodes |= write_skeleton(store, groups, together)

        def in_turn() -> Iterator[Variable]:
            yield from together
            # Of a series each is looked at when its turn comes: a photograph is decoded for that as a whole.
            for number in range(len(together), len(members)):
                variable = planned(reader, *members[number], options)
                left = sum(prod(level.shape) for _, member in members[number:] for level in member.levels)
                of_this = sum(prod(level.shape) for level in variable.member.levels)
                check_space(store, variable.stored_bytes * left // of_this)
                nodes.update(write_arrays(store, variable))
                yield variable

        variables = _write_values(
            reader, store, in_turn(), count=len(members), memory_bytes=memory_bytes, progress=progress
        )
        report(0.98, "metadata")
        ours = provenance_of(source, variables, arrays, warnings, provenance())
        write_metadata(store, groups, variables, nodes, ours)
        sync_all(store)
    return Written(groups=groups, variables=variables, arrays=arrays, warnings=warnings)


def _write_arrays(
    reader: Reader, source: Source, store: Path, arrays: list[Variable], *, memory_bytes: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Write what is kept beside the images, while the reader sees it; path -> document."""
    nodes: dict[str, dict[str, Any]] = {}
    for variable, array in zip(arrays, source.arrays, strict=True):
        nodes |= group_nodes(store, variable.group.path, variable.group.coordinates.values())
        nodes |= array_nodes(variable)
        write_json(store / array.path / "zarr.json", nodes[array.path])
        write_json(store / variable.group.path / "zarr.json", nodes[variable.group.path])
        progress.step = f"writing {array.path}"
        walk, held_bytes = budgeted(variable, memory_bytes)
        stream = _stream(reader, store, variable, Watcher(array.seen), tally_level=0)
        stream.run(replace(walk, in_order=True), held_bytes, progress=progress)
    return nodes


def _turn(member: Member) -> tuple[int, int]:
    """The images of a series come behind the others, each before what is made of it."""
    return -1 if member.image.series is None else member.image.series, member.index


def _write_values(
    reader: Reader,
    store: Path,
    variables: Iterable[Variable],
    *,
    count: int,
    memory_bytes: int,
    progress: Progress,
) -> list[Variable]:
    """Give them in the order of the source's images."""
    written = []
    for number, variable in enumerate(variables, 1):
        image, levels = variable.member.image, variable.member.levels
        progress.step = f"writing {image.name}" + (f" ({number} of {count})" if count > 1 else "")
        statistics = level_for_statistics(levels)
        tally = Tally(image, levels[statistics])
        stream = _stream(reader, store, variable, tally, tally_level=statistics)
        stream.run(*budgeted(variable, memory_bytes), progress=progress)
        variable.windows, variable.histograms = tally.windows(), tally.histograms()
        written.append(variable)
    return sorted(written, key=lambda variable: variable.member.index)


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
