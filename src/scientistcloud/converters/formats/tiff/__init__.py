"""TIFF in its many dialects: BigTIFF, OME-TIFF, ImageJ, MetaMorph, GeoTIFF, and folders of slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.formats.tiff.reader import TiffReader
from scientistcloud.omezarr.image import Reader

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class TiffConverter:
    """Reads TIFF with tifffile."""

    sensors = ("TIFF", "TIFF RGB")
    summary = "one file, a stack, BigTIFF, OME-TIFF, ImageJ, GeoTIFF, or a folder of slices"

    def sniff(self, head: bytes, name: str) -> bool:  # noqa: ARG002  # TIFF has a magic number
        return head.startswith(_MAGIC)

    def open(self, files: Sequence[Path], *, root: Path, options: ReadOptions) -> Reader:  # noqa: ARG002
        return TiffReader(files, root)
