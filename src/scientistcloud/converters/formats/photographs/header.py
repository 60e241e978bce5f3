"""What the beginning of a photograph says of it, before a pixel is decoded; and what it cannot truthfully say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scientistcloud.errors import UnreadableSource, UnsupportedSource

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LARGE_BYTES = 512 << 20
"""Decoded to more, a photograph has to look like one."""
MOST_BYTES = 16 << 30
_MOST_PACKED = 250  # JPEG of the lowest quality packs a photograph some 100 to 1, PNG a drawing some 200 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A photograph as its file stores it."""

    #: `JPEG`, `PNG` or `TIFF`.
    kind: str
    width: int
    height: int
    #: Samples of a pixel once decoded: 1 grey, 2 grey and alpha, 3 red, green, blue, 4 and alpha.
    samples: int
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    #: Its palette holds greys alone, so one of the three samples that they decode to is enough.
    grey_palette: bool = False
    #: EXIF as a TIFF stream, XMP as XML, the ICC profile; empty where there is none.
    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""
    #: What decoding changes, a sentence each.
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the decoded pixels: rows, columns and, where there are several, samples."""
        return (self.height, self.width) if self.samples == 1 else (self.height, self.width, self.samples)

    @property
    def size_bytes(self) -> int:
        return self.height * self.width * self.samples * self.dtype.itemsize


def check_possible(header: Header, *, name: str, file_bytes: int, most_packed: int) -> None:
    """Raise for a header that promises more pixels than its file can hold, or than a photograph has.

    `most_packed` is how far the format can pack anything at all. Nothing is allocated before.
    """
    claimed = header.size_bytes
    size = f"{header.width} x {header.height} pixels"
    if header.width < 1 or header.height < 1:
        raise UnreadableSource(f"{name} is damaged: it claims {size}; upload it again")
    if claimed > file_bytes * most_packed:
        raise UnreadableSource(
            f"{name} is damaged: it claims {size}, which {file_bytes:,} bytes of {header.kind} cannot hold; "
            "upload it again"
        )
    if claimed > MOST_BYTES:
        raise UnsupportedSource(
            f"{name} has {size}, {claimed / 2**30:.0f} GiB, and photographs are read up to "
            f"{MOST_BYTES / 2**30:.0f} GiB; save it as a tiled TIFF"
        )
    if claimed > LARGE_BYTES and claimed > file_bytes * _MOST_PACKED:
        raise UnsupportedSource(
            f"{name} would become {claimed / 2**30:.1f} GiB from {file_bytes:,} bytes, as no photograph does; "
            "save it as a tiled TIFF if it is one"
        )
