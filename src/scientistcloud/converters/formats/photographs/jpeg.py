"""JPEG: its segments, and its pixels by libjpeg-turbo."""

from __future__ import annotations

import re
from collections.abc import Iterator
from mmap import mmap

import simplejpeg

from scientistcloud.converters.formats.photographs.header import Header
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array

MOST_PACKED = 2048  # a progressive file can say "nothing more" of a block of 64 values of each colour in one bit
READER = f"simplejpeg {simplejpeg.__version__}"

_SOI, _EOI, _SOS, _APP1, _APP2 = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = 0xC2
_MOST_HELD = 1 << 30  # of coefficients, two bytes a sample; of other JPEGs a few rows are held
_DECODED = frozenset({0xC0, 0xC1, _PROGRESSIVE})  # baseline, extended, progressive; each by Huffman's code
_BARE = frozenset({0x01, _SOI, *range(0xD0, 0xD8)})  # markers without a segment
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
# The next marker behind compressed data: an FF that is not stuffed, not padding, and no restart.
_NEXT = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# All pixels are there; cameras that append a second picture write so.
_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9")


def header(data: mmap, name: str) -> Header:
    """Raises `UnreadableSource` for a file without its end, `UnsupportedSource` for kinds nobody can show."""
    frame: tuple[int, bytes] | None = None
    exif, xmp, profile = b"", b"", []
    for marker, start, length in _segments(data, name):
        if marker in _FRAMES and frame is None:
            frame = marker, data[start : start + length]
        elif marker == _APP1 and data[start : start + len(_EXIF)] == _EXIF and not exif:
            exif = data[start + len(_EXIF) : start + length]
        elif marker == _APP1 and data[start : start + len(_XMP)] == _XMP and not xmp:
            xmp = data[start + len(_XMP) : start + length]
        elif marker == _APP2 and data[start : start + len(_ICC)] == _ICC:
            profile.append(data[start + len(_ICC) + 2 : start + length])
    if frame is None or len(frame[1]) < 6:
        raise UnreadableSource(f"{name} is damaged: a JPEG without a picture; upload it again")
    kind, body = frame
    bits, samples = body[0], body[5]
    if kind not in _DECODED or bits != 8:
        raise UnsupportedSource(
            f"{name} is a JPEG of a kind that is not handled (frame {kind:02X}, {bits} bits); save it as PNG"
        )
    if samples == 4:
        raise UnsupportedSource(f"{name} is in CMYK, inks of a print and no colours of a screen; save it as RGB")
    if samples not in (1, 3):
        raise UnsupportedSource(f"{name} is a JPEG with {samples} samples a pixel; save it as TIFF")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if kind == _PROGRESSIVE and 2 * height * width * samples > _MOST_HELD:
        raise UnsupportedSource(
            f"{name} is a progressive JPEG of {width} x {height} pixels, which has to be held in memory whole; "
            "save it as an ordinary JPEG or as PNG"
        )
    return Header(
        kind="JPEG", width=width, height=height, samples=samples, exif=exif, xmp=xmp, icc=b"".join(profile)
    )


def decode(data: mmap, header: Header, out: Array, name: str) -> None:
    """Fill `out`. Raises `UnreadableSource` for whatever libjpeg would only warn of, and fill with grey."""
    colours = "GRAY" if header.samples == 1 else "RGB"
    whole = out.reshape(header.height, header.width, header.samples)
    try:
        simplejpeg.decode_jpeg(data, colours, fastdct=False, fastupsample=False, buffer=whole)
    except ValueError as failed:
        if not _HARMLESS.search(str(failed)):
            raise UnreadableSource(f"{name} is damaged: {failed}; upload it again") from failed
        simplejpeg.decode_jpeg(data, colours, fastdct=False, fastupsample=False, buffer=whole, strict=False)


def _segments(data: mmap, name: str) -> Iterator[tuple[int, int, int]]:
    """Marker, start and length of each segment up to the end of the picture, which has to be there."""
    place = 2
    while place + 4 <= len(data) or data[place : place + 2] == b"\xff\xd9":
        if data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
        elif marker == _EOI:
            return
        elif marker in _BARE:
            place += 2
        else:
            length = int.from_bytes(data[place + 2 : place + 4], "big")
            if length < 2 or place + 2 + length > len(data):
                break
            yield marker, place + 4, length - 2
            place += 2 + length
            if marker == _SOS:
                found = _NEXT.search(data, place)
                if found is None:
                    break
                place = found.start()
    raise UnreadableSource(
        f"{name} is damaged: the JPEG breaks off or goes astray at byte {place}; upload it again"
    )
