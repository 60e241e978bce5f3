"""A photograph in TIFF, for those who say that it is one; as a picture alone, `TIFF RGB` reads it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import tifffile

from scientistcloud.converters.formats.photographs.header import Header
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array

MOST_PACKED = 1 << 16
READER = f"tifffile {tifffile.__version__}"

_BROKEN = (ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RuntimeError, AssertionError,
           EOFError, MemoryError, OSError, struct.error)  # fmt: skip
_REDUCED = 1  # a smaller copy of another page
_GREY, _RGB, _YCBCR = 1, 2, 6
_JPEG = (6, 7)


def header(path: Path) -> Header:
    """Of the first page, whose pixels have to be there; its tags are EXIF.

    Raises `UnreadableSource`, `UnsupportedSource`.
    """
    name = path.name
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            photometric = int(page.photometric)
            samples = int(page.samplesperpixel)
            shown = photometric in (_GREY, _RGB) or (photometric == _YCBCR and int(page.compression) in _JPEG)
            if not shown or samples > 4 or page.dtype not in (np.uint8, np.uint16) or page.imagedepth != 1:
                raise UnsupportedSource(
                    f"{name} is no photograph: {page.dtype} samples, {samples} a pixel, photometric {photometric}; "
                    "leave the choice of the sensor, or choose TIFF"
                )
            further = [each for each in tiff.pages[1:3] if isinstance(each, tifffile.TiffPage)]
            if any(not int(each.subfiletype) & _REDUCED for each in further):
                raise UnsupportedSource(f"{name} is a stack of pages and no photograph; choose TIFF")
            ends = [start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if not ends or not all(page.dataoffsets) or max(ends) > path.stat().st_size:
                raise UnreadableSource(f"{name} is damaged: its pixels are not all there; upload it again")
            tags = page.tags
            return Header(
                kind="TIFF",
                width=int(page.imagewidth),
                height=int(page.imagelength),
                samples=samples,
                dtype=np.dtype(page.dtype),
                xmp=bytes(tags["XMP"].value) if "XMP" in tags and isinstance(tags["XMP"].value, bytes) else b"",
                icc=bytes(page.iccprofile or b""),
            )
    except _BROKEN as failed:
        raise UnreadableSource(f"{name} cannot be read as TIFF: {failed}; export it anew") from failed


def decode(path: Path, header: Header, out: Array) -> None:
    """Fill `out`. Raises `UnreadableSource`."""
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            if header.samples > 1 and int(page.planarconfig) == 2:
                out[...] = np.moveaxis(page.asarray(maxworkers=1), 0, -1)
            else:
                page.asarray(out=out, maxworkers=1)
    except _BROKEN as failed:
        raise UnreadableSource(f"{path.name} is damaged: {failed}; upload it again") from failed
