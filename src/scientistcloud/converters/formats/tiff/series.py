"""What tifffile makes of a file, as stacks: which pages belong together, under which axes."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from scientistcloud.converters.formats.tiff.planes import Codec, Page
from scientistcloud.converters.formats.tiff.stack import Consecutive, Stack
from scientistcloud.errors import UnreadableSource, UnsupportedSource

# What tifffile raises on files that are not what they say.
BROKEN = (ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RuntimeError, AssertionError,
          EOFError, MemoryError, struct.error)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """One picture or stack of a file, before its axes get their meaning."""

    name: str
    kind: str
    stack: Stack
    page: tifffile.TiffPage
    #: tifffile's own order of the axes longer than 1.
    mask: bool = False
    reduced: bool = False
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A file as tifffile understands it."""

    tiff: tifffile.TiffFile
    series: tuple[Series, ...]
    said: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@contextmanager
def listening(said: list[str]) -> Iterator[None]:
    """Collect what tifffile would write to the log."""
    logger = logging.getLogger("tifffile")

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage().split("> ", 1)[-1])

    handler, propagate = Collect(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def open_tiff(path: Path, *, file_number: dict[Path, int], omexml: str | None = None) -> Opened:
    """The stacks of `path`. Its directories have been followed before, so no table in it is out of bounds."""
    said: list[str] = []
    with listening(said):
        try:
            tiff = tifffile.TiffFile(path, omexml=omexml)
        except BROKEN as failed:
            raise UnreadableSource(f"{path.name} cannot be read as TIFF: {failed}; export it anew") from failed
        try:
            found = tuple(_stacks(path, tiff, file_number))
        except BROKEN as failed:
            tiff.close()
            raise UnreadableSource(f"{path.name} cannot be read as TIFF: {failed}; export it anew") from failed
        except BaseException:
            tiff.close()
            raise
    return Opened(tiff, found, tuple(dict.fromkeys(said)))


def _stacks(path: Path, tiff: tifffile.TiffFile, file_number: dict[Path, int]) -> Iterator[Series]:
    for series in tiff.series:
        keyframe = series.keyframe
        if keyframe.dtype is None:
            raise UnsupportedSource(
                f"{path.name} has pixels of {keyframe.bitspersample} bits in a form that no array has; "
                "export it with 8, 16 or 32 bits"
            )
        codec = codec_of(keyframe)
        pages = _pages(series, codec, file_number)
        lead, letters = _axes(series, codec, len(pages))
        stack = Stack(pages, codec, lead, letters)
        yield Series(
            name=series.name,
            kind=series.kind,
            stack=stack,
            page=keyframe,
            mask=bool(keyframe.subfiletype & 4) or keyframe.photometric == 4,
            reduced=bool(keyframe.subfiletype & 1),
            missing=sum(page is None for page in pages) if isinstance(pages, list) else 0,
        )


def codec_of(page: tifffile.TiffPage) -> Codec:
    """How pages like `page` are decoded."""
    dtype = np.dtype(np.uint8) if page.dtype == np.bool_ else np.dtype(page.dtype).newbyteorder("=")
    shaped = tuple(int(length) for length in page.shaped)
    assert len(shaped) == 5
    if page.is_tiled:
        segment = (int(page.tiledepth or 1), int(page.tilelength), int(page.tilewidth))
    else:
        segment = (1, min(int(page.rowsperstrip), shaped[2]), shaped[3])
    header: dict[str, Any] = {}
    if page.compression in (6, 7, 33007, 34892):
        header = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    return Codec(
        shaped=shaped,
        dtype=dtype,
        order=page.parent.byteorder,
        segment=segment,
        tiled=page.is_tiled,
        decode=page.decode,
        header=header,
        nodata=page.nodata,
    )


def page_of(page: tifffile.TiffPage | tifffile.TiffFrame, codec: Codec, file: int) -> Page:
    """Where `page` lies."""
    keyframe = page.keyframe
    plain = bool(keyframe.is_final) and keyframe.dtype != np.bool_ and len(page.dataoffsets) > 0
    return Page(
        file=file,
        number=page.index + 1,
        codec=codec,
        start=int(page.dataoffsets[0]) if plain else None,
        offsets=page.dataoffsets,
        sizes=page.databytecounts,
        tables=page.jpegtables,
    )


def _pages(series: tifffile.TiffPageSeries, codec: Codec, file_number: dict[Path, int]) -> Sequence[Page | None]:
    def number(page: tifffile.TiffPage | tifffile.TiffFrame) -> int:
        return file_number[Path(page.parent.filehandle.path)]

    total = math.prod(series.get_shape(False)) // max(1, math.prod(codec.shaped))
    if series.dataoffset is not None:
        return Consecutive(file=number(series.keyframe), codec=codec, start=series.dataoffset, count=max(1, total))
    return [None if page is None else page_of(page, codec, number(page)) for page in series]


def _axes(series: tifffile.TiffPageSeries, codec: Codec, count: int) -> tuple[tuple[int, ...], str]:
    """Lengths of the axes above the pages, and a letter for each axis of the stack."""
    named = [
        (letter, length)
        for letter, length in zip(series.get_axes(False), series.get_shape(False), strict=True)
        if length > 1
    ]
    inner = [length for length in codec.shaped if length > 1]
    lead, below = named[: len(named) - len(inner)], named[len(named) - len(inner) :]
    fits = [length for _, length in below] == inner and math.prod(length for _, length in lead) == count
    if not fits:  # the description does not match the pages, which are what there is
        lead = [("Q", count)] if count > 1 else []
        below = []
    letters = [letter for letter, _ in lead]
    usual = iter("SZYXS")
    given = iter([letter for letter, _ in below])
    for length in codec.shaped:
        letter = next(usual)
        letters.append(next(given, letter) if fits and length > 1 else letter)
    return tuple(length for _, length in lead), "".join(letters)
