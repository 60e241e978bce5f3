"""TIFF in its many dialects: BigTIFF, OME-TIFF, ImageJ, MetaMorph, GeoTIFF, and folders of slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.errors import UnsupportedSource
from scientistcloud.omezarr.image import Reader

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class TiffConverter:
    """Reads TIFF with tifffile."""

    sensors: tuple[str, ...] = ("TIFF", "TIFF RGB")
    summary = "one file, a stack, BigTIFF, OME-TIFF, ImageJ, GeoTIFF, or a folder of slices"

    def sniff(self, head: bytes, name: str) -> bool:
        return head.startswith(_MAGIC) or _is_companion(name)

    def open(self, files: Sequence[Path], *, root: Path, options: ReadOptions) -> Reader:
        tiffs = [path for path in files if not _is_companion(path.name)]
        if not tiffs:
            raise UnsupportedSource(
                f"{files[0].name} describes images but holds none; upload the TIFF files that it names with it"
            )
        # Not above: who converts another format need not load these libraries.
        from scientistcloud.converters.formats.tiff.reader import TiffReader

        return TiffReader(tiffs, root, options.scratch)


def _is_companion(name: str) -> bool:
    """OME's description of several TIFF files in a file of its own, which has no magic number."""
    return name.lower().endswith(".companion.ome")
