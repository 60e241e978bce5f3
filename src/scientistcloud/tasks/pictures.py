"""The pictures of a conversion: the preview beside its store, and the quick look ahead of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scientistcloud.layout import PREVIEW
from scientistcloud.omezarr.disk import disk, sync
from scientistcloud.omezarr.grid import shard_of
from scientistcloud.omezarr.image import Array, PlainArray, Reader, Region, Source
from scientistcloud.omezarr.quicklook import look, picked, plan_array
from scientistcloud.omezarr.writer import Written, write
from scientistcloud.tasks.contract import Report


def preview_of(made: Path, written: Written) -> None:
    """The preview beside the store that was made."""
    from scientistcloud.omezarr.preview import write_preview  # its library is of use here alone

    first = written.variables[0]
    with disk(made):
        write_preview(
            made.with_name(PREVIEW),
            arrays=[made / first.path(k) for k in range(len(first.member.levels))],
            levels=first.member.levels,
            image=first.member.image,
            windows=first.windows,
            coordinates=first.group.coordinates,
        )
        sync(made.with_name(PREVIEW))


def quick_look(reader: Reader, described: Source, target: Path, *, partial: Path, report: Report) -> None:
    """Write a few pixels of the source as a store with a preview, which then appears as `target`.

    Of an array that is kept beside the images, they are picked from it, and the images are made of what was picked.
    """

    looked = looked_at(reader, described, lambda: report(0.0, "quick look"))
    if looked is None:
        return
    made = partial / target.name
    made.mkdir()
    written = write(looked, looked.source, made)
    preview_of(made, written)
    made.with_name(PREVIEW).rename(made / PREVIEW)
    made.rename(target)


def looked_at(reader: Reader, described: Source, report: Callable[[], None]) -> Looked | None:
    """Some pixels of what `reader` describes, as another reader; None where picking them would take long."""
    return (
        _look_at_array(reader, described, report) if described.arrays else _look_at_image(reader, described, report)
    )


def _look_at_image(reader: Reader, described: Source, report: Callable[[], None]) -> Looked | None:
    looked = look(reader, 0, described.images[0], report=report)
    if looked is None:
        return None
    image, values = looked
    return Looked(replace(described, images=(image,), arrays=(), warnings=()), (values,))


def _look_at_array(reader: Reader, described: Source, report: Callable[[], None]) -> Looked | None:
    array = described.arrays[0]
    planned = plan_array(array.image)
    if planned is None or array.sketch is None:
        return None
    small, values = picked(reader, len(described.images), array.image, planned, report=report)
    images = array.sketch(small, planned.picks, values)
    chunk = tuple(min(c, n) for c, n in zip(array.chunk, small.shape, strict=True))
    kept = PlainArray(
        image=small,
        path=array.path,
        chunk=chunk,
        shard=shard_of(small.shape, chunk, item_bytes=small.dtype.itemsize),
    )
    source = replace(described, images=tuple(image for image, _ in images), arrays=(kept,), warnings=())
    return Looked(source, (*(each for _, each in images), values))


@dataclass(frozen=True, slots=True)
class Looked:
    """The quick look as a reader: all of it lies in memory."""

    source: Source
    #: Of the images, then of the arrays.
    values: tuple[Array, ...]

    def describe(self) -> Source:
        return self.source

    def read(self, image: int, region: Region) -> Array:
        return np.ascontiguousarray(self.values[image][region])

    def close(self) -> None:
        """Nothing is held."""
