"""Colour profiles (ICC) of pictures: their names, and the one that cameras mean without enclosing it."""

from __future__ import annotations

import io
import struct
from functools import cache, lru_cache

# Red, green and blue as XYZ under D50, and the exponent, of Adobe RGB (1998), version 2005-05, annex C.
_ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
_ADOBE_GAMMA = 563 / 256
_D50 = (0.9642, 1.0, 0.8249)


@lru_cache(maxsize=16)
def name_of(icc: bytes) -> str:
    """The profile's name for people; empty where there is none that can be read."""
    if not icc:
        return ""
    from PIL import ImageCms  # most pictures have no profile

    try:
        return " ".join(ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).split())
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError, LookupError, RuntimeError):
        return ""


def said_of(icc: bytes) -> str:
    """What people should know of the profile `icc`; nothing of the usual one, sRGB."""
    name = name_of(icc)
    if not name or "srgb" in name.lower():
        return ""
    return f"its colours are of the profile {name!r}, which the preview heeds and the viewer does not"


@cache
def adobe_rgb() -> bytes:
    """Adobe RGB (1998) as a profile; the layout is that of ICC.1:2001-04, chapter 6."""
    name = b"Adobe RGB (1998)\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {b"desc": described, b"cprt": b"text\0\0\0\0CC0\0", b"wtpt": _xyz(*_D50)}
    for letter, primary in zip((b"r", b"g", b"b"), _ADOBE_RGB, strict=True):
        tags[letter + b"XYZ"] = _xyz(*primary)
        tags[letter + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * _ADOBE_GAMMA))
    table, body = b"", b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content.ljust(-(-len(content) // 4) * 4, b"\0")
    size = struct.pack(">I", 132 + len(table) + len(body))
    kind = struct.pack(">I", 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    header = (size + bytes(4) + kind).ljust(68, b"\0") + _xyz(*_D50)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(*numbers: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * number) for number in numbers))
