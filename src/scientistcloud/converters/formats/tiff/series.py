"""What tifffile makes of a file, as stacks: which pages belong together, under which axes."""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from scientistcloud.converters.formats.tiff.files import Files
from scientistcloud.converters.formats.tiff.planes import Codec, Page, page_at
from scientistcloud.converters.formats.tiff.stack import Consecutive, Stack
from scientistcloud.errors import UnreadableSource, UnsupportedSource

# What tifffile raises on files that are not what they say.
BROKEN = (ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RuntimeError, AssertionError,
          EOFError, MemoryError, struct.error)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """One picture or stack of a file, before its axes get their meaning."""

    #: Its place among the series of the file, which is that of its description in OME-XML.
    number: int
    name: str
    #: tifffile's word for the dialect.
    kind: str
    stack: Stack
    page: tifffile.TiffPage
    #: A mask is a label of another picture.
    mask: bool
    #: A smaller copy of another picture.
    reduced: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """A file as tifffile understands it."""

    tiff: tifffile.TiffFile
    series: tuple[Series, ...]


@contextmanager
def listening(said: list[str]) -> Iterator[None]:
    """Collect what tifffile would write to the log."""
    logger = logging.getLogger("tifffile")

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = re.sub(r"<tifffile\.TiffTag (\d+)[^>]*>", r"tag \1:", record.getMessage())
            said.append(re.sub(r"<tifffile\.\w+ '?([^'>]*)'?>", r"\1:", text))

    handler, propagate = Collect(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def open_tiff(files: Files, file: int, *, omexml: str | None = None) -> Opened:
    """The stacks of a file. Its directories have been followed before, so no table in it is out of bounds.

    `omexml` is what `companions` has looked at: no other file but those that it names is opened. Raises
    `UnreadableSource`, `UnsupportedSource`.
    """
    path = files.paths[file]
    try:
        tiff = tifffile.TiffFile(path, omexml=omexml, _multifile=omexml is not None)
        try:
            found = tuple(_series(files, file, tiff))
        except BaseException:
            tiff.close()
            raise
    except BROKEN as failed:
        raise UnreadableSource(f"{path.name} cannot be read as TIFF: {failed}; export it anew") from failed
    if not found:
        tiff.close()
        raise UnreadableSource(f"{path.name} holds no picture; export it anew")
    return Opened(tiff, found)


def _series(files: Files, file: int, tiff: tifffile.TiffFile) -> Iterator[Series]:
    for number, series in enumerate(tiff.series):
        keyframe = series.keyframe
        if keyframe.dtype is None:
            raise UnsupportedSource(
                f"{files.name(file)} has samples of {keyframe.bitspersample} bits, which no array has; "
                "export it with 8, 16 or 32 bits"
            )
        codec = codec_of(keyframe)
        run = _run(series, codec, files)
        lead, letters = _axes(series, codec, len(run))
        yield Series(
            number=number,
            name=series.name,
            kind=series.kind,
            stack=Stack((run,), codec, lead, letters),
            page=keyframe,
            mask=bool(keyframe.subfiletype & 4) or keyframe.photometric == 4,
            reduced=bool(keyframe.subfiletype & 1),
        )


def codec_of(page: tifffile.TiffPage) -> Codec:
    """How pages like `page` are decoded."""
    dtype = np.dtype(np.uint8) if page.dtype == np.bool_ else np.dtype(page.dtype).newbyteorder("=")
    samples, depth, length, width, parts = (int(each) for each in page.shaped)
    if page.is_tiled:
        segment = (int(page.tiledepth or 1), int(page.tilelength), int(page.tilewidth))
    else:
        segment = (1, min(int(page.rowsperstrip), length), width)
    jpeg = page.compression in (6, 7, 33007, 34892)
    plain = (
        page.compression == page.predictor == page.fillorder == 1
        and page.bitspersample in (8, 16, 32, 64)
        and page.sampleformat != 5  # complex integers are read as complex numbers
        and not page.is_subsampled
    )
    return Codec(
        shaped=(samples, depth, length, width, parts),
        dtype=dtype,
        order=page.parent.byteorder,
        segment=segment,
        tiled=bool(page.is_tiled),
        decode=page.decode,
        header={"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if jpeg else {},
        nodata=page.nodata,
        plain=bool(plain),
    )


def _run(series: tifffile.TiffPageSeries, codec: Codec, files: Files) -> Sequence[Page | None]:
    def number(page: tifffile.TiffPage | tifffile.TiffFrame) -> int:
        return files.add(Path(page.parent.filehandle.path))

    total = math.prod(series.get_shape(False)) // max(1, math.prod(codec.shaped))
    if series.dataoffset is not None and codec.plain:
        return Consecutive(file=number(series.keyframe), codec=codec, start=series.dataoffset, count=max(1, total))
    return [
        None
        if page is None
        else page_at(number(page), page.index + 1, codec, page.dataoffsets, page.databytecounts, page.jpegtables)
        for page in series
    ]


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
