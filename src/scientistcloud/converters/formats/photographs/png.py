"""PNG: its chunks, and its pixels by libpng."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from mmap import mmap

import imagecodecs
import numpy as np

from scientistcloud.converters.formats.photographs.header import PNG_MAGIC, Header
from scientistcloud.errors import UnreadableSource
from scientistcloud.omezarr.image import Array

MOST_PACKED = 1032 * 4 * 8  # deflate's limit, times what a bit with a palette becomes: four bytes
READER = f"imagecodecs {imagecodecs.__version__}"

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 3, _GREY_ALPHA: 2, _RGBA: 4}
_BITS = {_GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), _GREY_ALPHA: (8, 16), _RGBA: (8, 16)}
_MOST_TEXT = 1 << 20


def header(data: mmap, name: str) -> Header:
    """Raises `UnreadableSource` for a file without its end, or with a header that PNG does not know."""
    found: Header | None = None
    transparent, grey = False, False
    exif, xmp, icc = b"", b"", b""
    notes: list[str] = []
    for kind, start, length in _chunks(data, name):
        if found is None:
            found = _first(kind, data[start : start + length], name, notes)
        elif kind == b"PLTE":
            palette = data[start : start + length]
            grey = palette[::3] == palette[1::3] == palette[2::3]
        elif kind == b"tRNS":
            transparent = True
        elif kind == b"eXIf":
            exif = data[start : start + length].removeprefix(b"Exif\0\0")
        elif kind == b"iTXt" and data[start : start + 17] == b"XML:com.adobe.xmp":
            xmp = _text(data[start : start + length])
        elif kind == b"iCCP":
            icc = _inflated(data[start : start + length].partition(b"\0")[2][1:])
    assert found is not None
    indexed = found.samples == 3 and bool(notes)
    grey = grey and indexed and not transparent
    return Header(
        kind="PNG",
        width=found.width,
        height=found.height,
        samples=1 if grey else found.samples + (1 if transparent and found.samples in (1, 3) else 0),
        dtype=found.dtype,
        grey_palette=grey,
        exif=exif,
        xmp=xmp,
        icc=icc,
        notes=tuple(notes),
    )


def decode(data: mmap, header: Header, out: Array, name: str) -> None:
    """Fill `out`. Raises `UnreadableSource`."""
    try:
        if header.grey_palette:
            out[...] = imagecodecs.png_decode(data)[..., 0]
            return
        made = imagecodecs.png_decode(data, out=out)
    except (imagecodecs.PngError, ValueError, RuntimeError) as failed:
        raise UnreadableSource(f"{name} is damaged: {failed}; upload it again") from failed
    if made.shape != header.shape or made.dtype != header.dtype:
        raise UnreadableSource(f"{name} is damaged: its pixels are not what its header says; upload it again")


def _first(kind: bytes, body: bytes, name: str, notes: list[str]) -> Header:
    if kind != b"IHDR" or len(body) != 13:
        raise UnreadableSource(f"{name} is damaged: a PNG that begins with {kind!r}; upload it again")
    width, height, bits, colour, packing, filtering, interlaced = struct.unpack(">IIBBBBB", body)
    if bits not in _BITS.get(colour, ()) or packing or filtering or interlaced > 1:
        raise UnreadableSource(
            f"{name} is damaged: no PNG has {bits} bits of colour type {colour}; upload it again"
        )
    if colour == _PALETTE:
        notes.append("the colours of its palette are written, not the numbers of the colours")
    elif bits < 8:
        notes.append(f"its {bits} bits a pixel are spread over 0 to 255")
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    return Header(kind="PNG", width=width, height=height, samples=_SAMPLES[colour], dtype=dtype)


def _chunks(data: mmap, name: str) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and length of each chunk up to the end, which has to be there."""
    place = len(PNG_MAGIC)
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if place + 12 + length > len(data):
            break
        if kind == b"IEND" and place > len(PNG_MAGIC):
            return
        yield kind, place + 8, length
        place += 12 + length
    raise UnreadableSource(f"{name} is damaged: the PNG breaks off at byte {place} of {len(data)}; upload it again")


def _text(body: bytes) -> bytes:
    """The text of an ``iTXt``: keyword, packed or not, method, language, translated keyword, text."""
    packed, rest = body.partition(b"\0")[2][:1], body.partition(b"\0")[2][2:]
    text = rest.partition(b"\0")[2].partition(b"\0")[2]
    return _inflated(text) if packed == b"\x01" else text[:_MOST_TEXT]


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, _MOST_TEXT)
    except zlib.error:
        return b""
