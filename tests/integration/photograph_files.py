"""Photographs for tests, written with Pillow or byte by byte: cameras' headers on pictures made here."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

DJI = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    ' xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" drone-dji:RelativeAltitude="+40.20"'
    ' drone-dji:GimbalYawDegree="-12.30"><drone-dji:FlightYawDegree>+7.5</drone-dji:FlightYawDegree>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def scene(height: int = 48, width: int = 64, *, seed: int = 1) -> NDArray[np.uint8]:
    """A picture (y, x, 3) that is nowhere the same, darker on the left and at the top."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 40, (height, width, 3))
    ramp = np.stack([x * 200 / width, y * 200 / height, (x + y) * 200 / (width + height)], axis=-1)
    made: NDArray[np.uint8] = (ramp + noise).clip(0, 255).astype(np.uint8)
    return made


def exif(*, orientation: int | None = None, make: str = "", model: str = "", place: bool = False) -> Picture.Exif:
    tags = Picture.Exif()
    if orientation is not None:
        tags[0x0112] = orientation
    if make:
        tags[0x010F] = make
    if model:
        tags[0x0110] = model
    if place:  # a beach near Lima: south, west, and below the sea
        gps = tags.get_ifd(0x8825)
        gps |= {1: "S", 2: (12.0, 30.0, 36.0), 3: "W", 4: (76.0, 45.0, 0.0), 5: b"\x01", 6: 2.5}
    return tags


def photograph(path: Path, pixels: NDArray[Any] | None = None, **said: Any) -> NDArray[np.uint8]:
    """Write a photograph; give its pixels as Pillow reads them, as stored."""
    xmp = said.pop("xmp", None)
    more = {"xmp": xmp.encode()} if xmp else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(scene() if pixels is None else pixels).save(path, exif=exif(**said), **more)
    return read(path)


def read(path: Path) -> NDArray[np.uint8]:
    with Picture.open(path) as picture:
        return np.array(picture)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, bits: int, colour: int, rows: bytes, between: bytes = b"") -> bytes:
    """A PNG whose `rows` each begin with their filter's number."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + between + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
