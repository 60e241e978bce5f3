"""TIFF files byte by byte, for headers that no library would write."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

BYTE, ASCII, SHORT, LONG, RATIONAL = 1, 2, 3, 4, 5


@dataclass
class Tag:
    """An entry: its value inline where it is a number, else bytes that are put behind the directory."""

    code: int
    kind: int
    count: int
    value: int | bytes


def picture(
    width: int, length: int, *, strip: int | None = None, size: int | None = None, **more: int
) -> list[Tag]:
    """The tags of an uncompressed picture of one byte a pixel; `strip` is where its pixels are."""
    tags = [
        Tag(256, LONG, 1, width),
        Tag(257, LONG, 1, length),
        Tag(258, SHORT, 1, more.get("bits", 8)),
        Tag(259, SHORT, 1, more.get("compression", 1)),
        Tag(262, SHORT, 1, 1),
        Tag(277, SHORT, 1, 1),
        Tag(278, LONG, 1, more.get("rows", length)),
    ]
    if strip is not None:
        tags += [Tag(273, LONG, 1, strip), Tag(279, LONG, 1, width * length if size is None else size)]
    return sorted(tags, key=lambda tag: tag.code)


def write(path: Path, tags: list[Tag], *, data: bytes = b"", following: int = 0) -> Path:
    """A classic little-endian file: header, `data` at byte 8, one directory, long values behind it."""
    start = 8 + len(data) + len(data) % 2
    behind = start + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag in tags:
        if isinstance(tag.value, int):
            inline = struct.pack("<I", tag.value)
        else:
            inline = struct.pack("<I", behind + len(values))
            values += tag.value
        entries += struct.pack("<HHI", tag.code, tag.kind, tag.count) + inline
    head = struct.pack("<2sHI", b"II", 42, start) + data.ljust(start - 8, b"\0")
    path.write_bytes(head + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + values)
    return path
