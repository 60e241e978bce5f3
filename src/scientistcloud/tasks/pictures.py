"""The pictures of a conversion: the preview beside its store, and the quick look ahead of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scientistcloud.layout import PREVIEW
from scientistcloud.omezarr.disk import disk, sync
from scientistcloud.omezarr.image import Array, Reader, Region, Source
from scientistcloud.omezarr.preview import write_preview
from scientistcloud.omezarr.quicklook import look
from scientistcloud.omezarr.writer import Written, write
from scientistcloud.tasks.contract import Report


def preview_of(made: Path, written: Written) -> None:
    """The preview beside the store that was made."""
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
    """Write a few pixels of the first image as a store with a preview, which then appears as `target`."""
    looked = look(reader, 0, described.images[0], report=lambda: report(0.0, "quick look"))
    if looked is None:
        return
    image, values = looked
    made = partial / target.name
    made.mkdir()
    small = Source(sensor=described.sensor, images=(image,), reader=described.reader)
    written = write(_Looked(small, values), small, made)
    preview_of(made, written)
    made.with_name(PREVIEW).rename(made / PREVIEW)
    made.rename(target)


@dataclass(frozen=True, slots=True)
class _Looked:
    """The quick look as a reader: its one image lies in memory."""

    source: Source
    values: Array

    def describe(self) -> Source:
        return self.source

    def read(self, image: int, region: Region) -> Array:
        del image  # there is one
        return np.ascontiguousarray(self.values[region])

    def close(self) -> None:
        """Nothing is held."""
