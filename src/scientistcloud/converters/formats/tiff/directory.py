"""The chain of directories (IFDs) of a TIFF file, followed and checked before anything trusts it.

A header may name tables of 10^9 entries, pages that follow themselves, or places behind the end of the file;
found here, they are one clear error instead of an allocation. TIFF 6.0, section 2; BigTIFF likewise with
longer fields.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scientistcloud.errors import UnreadableSource

_CLASSIC = np.dtype([("code", "u2"), ("type", "u2"), ("count", "u4"), ("value", "u4")])
_BIG = np.dtype([("code", "u2"), ("type", "u2"), ("count", "u8"), ("value", "u8")])
# Bytes of one value by field type; 0 for types that nobody defines, which every reader skips.
_SIZES = np.zeros(65536, "u8")
_SIZES[1:14] = (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
_SIZES[16:19] = 8
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}

WIDTH, LENGTH, DESCRIPTION, SUB_DIRECTORIES = 256, 257, 270, 330
STRIP_OFFSETS, STRIP_SIZES, TILE_OFFSETS, TILE_SIZES, JPEG_TABLES = 273, 279, 324, 325, 347
# What two pages have to share to be decoded alike and stand in one stack.
LAYOUT = (256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 338, 339, 32997, 32998)


@dataclass(frozen=True, slots=True)
class Directory:
    """One page's entries."""

    offset: int
    entries: NDArray[Any]
    order: str
    inline: int

    def __contains__(self, code: int) -> bool:
        return bool((self.entries["code"] == code).any())

    def span(self, code: int) -> tuple[int, int, int, int] | None:
        """Type, count, first byte in the file and length of a tag's value; None without the tag."""
        found = np.flatnonzero(self.entries["code"] == code)
        if not len(found):
            return None
        index = int(found[0])
        entry = self.entries[index]
        length = int(_SIZES[entry["type"]]) * int(entry["count"])
        head, width = (8, 20) if self.inline == 8 else (2, 12)
        start = (
            int(entry["value"])
            if length > self.inline
            else self.offset + head + index * width + width - self.inline
        )
        return int(entry["type"]), int(entry["count"]), start, length


@dataclass(frozen=True, slots=True)
class Chain:
    """The directories of a file, in order, each known to lie within it."""

    fd: int
    name: str
    size: int
    order: str
    pages: tuple[Directory, ...]

    def integers(self, directory: Directory, code: int) -> tuple[int, ...]:
        """A tag's values; () without the tag."""
        span = directory.span(code)
        if span is None or span[0] not in _INTEGERS:
            return ()
        kind, count, start, length = span
        data = os.pread(self.fd, length, start)
        return tuple(np.frombuffer(data, self.order + _INTEGERS[kind], count).tolist())

    def raw(self, directory: Directory, code: int) -> bytes | None:
        span = directory.span(code)
        return None if span is None else os.pread(self.fd, span[3], span[2])

    def layout(self, directory: Directory) -> tuple[object, ...]:
        """Equal for pages that are decoded alike and have equal shapes."""
        return (self.order, *(self.integers(directory, code) for code in LAYOUT), self.raw(directory, JPEG_TABLES))


def follow(fd: int, name: str) -> Chain:
    """The directories of the open file `name`.

    Raises `UnreadableSource` for a file that ends too early or whose directories make no sense.
    """
    size = os.fstat(fd).st_size
    head = os.pread(fd, 16, 0)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise UnreadableSource(f"{name} is no TIFF file: it holds {size} bytes and no TIFF header; upload it again")
    (version,) = struct.unpack(order + "H", head[2:4])
    if version not in (42, 43) or (version == 43 and len(head) < 16):
        raise UnreadableSource(
            f"{name} is a TIFF file of the unknown version {version}; export it as TIFF or BigTIFF"
        )
    big = version == 43
    (first,) = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])

    pages: list[Directory] = []
    seen: set[int] = set()
    offset = first
    while offset:
        if offset in seen:
            raise UnreadableSource(f"{name} is damaged: page {len(pages) + 1} is page 1 again; export it anew")
        seen.add(offset)
        directory, offset = _read(fd, name, size, order=order, big=big, offset=offset, pages=pages)
        pages.append(directory)
    if not pages:
        raise UnreadableSource(f"{name} has a TIFF header but no page; upload it again")
    chain = Chain(fd, name, size, order, tuple(pages))
    for directory in pages:
        for sub in chain.integers(directory, SUB_DIRECTORIES):
            if sub not in seen and sub:
                seen.add(sub)
                _read(fd, name, size, order=order, big=big, offset=sub, pages=pages)
    return chain


def _read(
    fd: int, name: str, size: int, *, order: str, big: bool, offset: int, pages: list[Directory]
) -> tuple[Directory, int]:
    entry, head, tail = (_BIG, 8, 8) if big else (_CLASSIC, 2, 4)
    block = os.pread(fd, 1024, offset) if offset < size else b""
    if len(block) < head:
        raise _cut(fd, name, size, order, pages, offset)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), block)
    length = head + count * entry.itemsize + tail
    if offset + length - tail > size:
        raise _cut(fd, name, size, order, pages, offset)
    if length > len(block):
        block = os.pread(fd, length, offset)
    entries = np.frombuffer(block, entry.newbyteorder(order), count, head)
    lengths = _SIZES[entries["type"]] * np.minimum(entries["count"], np.uint64(size + 1))
    outside = (lengths > tail) & (entries["value"].astype("u8") + lengths > size)
    if outside.any():
        code = int(entries["code"][outside][0])
        if len(pages) == 0 or code < 32768:
            raise UnreadableSource(
                f"{name} is damaged or cut off: tag {code} of page {len(pages) + 1} lies behind the file's end at "
                f"byte {size}; upload it again"
            )
    following = block[length - tail : length]
    after = struct.unpack(order + ("Q" if big else "I"), following)[0] if len(following) == tail else 0
    return Directory(offset, entries, order, tail), int(after)


def _cut(fd: int, name: str, size: int, order: str, pages: list[Directory], offset: int) -> UnreadableSource:
    if not pages:
        return UnreadableSource(
            f"{name} ends after {size} bytes, before its first page (at byte {offset}); upload it again"
        )
    text = Chain(fd, name, size, order, ()).raw(pages[0], DESCRIPTION) or b""
    total = declared_pages(text.decode("latin-1"))
    of = f" of {total}" if total and total > len(pages) else ""
    return UnreadableSource(f"{name} ends after {len(pages)}{of} pages; upload it again")


def declared_pages(description: str) -> int | None:
    """How many pages a file has by its own description (ImageJ, tifffile, OME); None where it does not say."""
    if found := re.match(r"ImageJ=.*?^images=(\d+)", description, re.DOTALL | re.MULTILINE):
        return int(found[1])
    if found := re.match(r'(?:\{.*?"shape": \[([\d, ]+)\]|shape=\(([\d, ]+)\))', description):
        lengths = [int(length) for length in (found[1] or found[2]).split(",") if length.strip()]
        return int(np.prod(lengths[:-2], dtype=object)) if len(lengths) > 2 else 1
    if "<OME" in description and (found := re.search(r"<Pixels\b[^>]*>", description)):
        sizes = dict(re.findall(r'Size([ZCT])="(\d+)"', found[0]))
        return int(np.prod([int(length) for length in sizes.values()], dtype=object))
    return None


def segments(chain: Chain, directory: Directory) -> Iterator[tuple[int, int]]:
    """Offset and length of each strip or tile."""
    offsets = chain.integers(directory, TILE_OFFSETS) or chain.integers(directory, STRIP_OFFSETS)
    sizes = chain.integers(directory, TILE_SIZES) or chain.integers(directory, STRIP_SIZES)
    yield from zip(offsets, sizes, strict=False)
