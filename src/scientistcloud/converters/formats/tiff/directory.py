"""The chain of directories (IFDs) of a TIFF file, followed and checked before anything trusts it.

A header may name tables of 10^9 entries, pages that follow themselves, or places behind the end of the file;
found here, they are one clear error instead of an allocation. TIFF 6.0, section 2; BigTIFF likewise with
longer fields.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scientistcloud.converters.formats.tiff.files import Files
from scientistcloud.errors import UnreadableSource

_CLASSIC = np.dtype([("code", "u2"), ("type", "u2"), ("count", "u4"), ("value", "u4")])
_BIG = np.dtype([("code", "u2"), ("type", "u2"), ("count", "u8"), ("value", "u8")])
# Bytes of one value by field type; 0 for types that nobody defines, which every reader skips.
_SIZES = np.zeros(65536, "u8")
_SIZES[1:14] = (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
_SIZES[16:19] = 8
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}

WIDTH, LENGTH, BITS, COMPRESSION = 256, 257, 258, 259
DESCRIPTION, SAMPLES, SUB_DIRECTORIES = 270, 277, 330
STRIP_OFFSETS, STRIP_SIZES, TILE_OFFSETS, TILE_SIZES, JPEG_TABLES = 273, 279, 324, 325, 347
# What two pages have to share to be decoded alike and stand in one stack.
LAYOUT = (256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 338, 339, 32997, 32998)


@dataclass(frozen=True, slots=True)
class Directory:
    """One page's entries."""

    offset: int
    entries: NDArray[Any]
    #: How many bytes of a value stand in the entry itself.
    inline: int

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

    files: Files
    file: int
    order: str
    pages: tuple[Directory, ...]

    def integers(self, directory: Directory, code: int) -> tuple[int, ...]:
        """A tag's values; () without the tag."""
        span = directory.span(code)
        if span is None or span[0] not in _INTEGERS:
            return ()
        kind, count, start, length = span
        data = self.files.read(self.file, start, length)
        return tuple(np.frombuffer(data, self.order + _INTEGERS[kind], count).tolist())

    def raw(self, directory: Directory, code: int) -> bytes | None:
        span = directory.span(code)
        return None if span is None else self.files.read(self.file, span[2], span[3])

    @property
    def description(self) -> str:
        """The text that the first page carries; "" without one."""
        text = self.raw(self.pages[0], DESCRIPTION) or b""
        return text.decode("utf-8", "replace").strip("\0 \r\n")

    def page_values(self, directory: Directory) -> int:
        """Pixels times samples of a page."""
        sizes = [self.integers(directory, code) for code in (WIDTH, LENGTH, SAMPLES)]
        return math.prod(found[0] if found else 1 for found in sizes)

    def places(self, directory: Directory) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Offsets and lengths of a page's strips or tiles."""
        tiled = directory.span(TILE_OFFSETS) is not None
        codes = (TILE_OFFSETS, TILE_SIZES) if tiled else (STRIP_OFFSETS, STRIP_SIZES)
        return self.integers(directory, codes[0]), self.integers(directory, codes[1])

    def layout(self, directory: Directory) -> tuple[object, ...]:
        """Equal for pages that are decoded alike and have equal shapes."""
        return (self.order, *(self.integers(directory, code) for code in LAYOUT), self.raw(directory, JPEG_TABLES))


def follow(files: Files, file: int) -> Chain:
    """The directories of a file.

    Raises `UnreadableSource` for a file that ends too early or whose directories make no sense.
    """
    name, size = files.name(file), files.size(file)
    head = files.read(file, 0, 16)
    order: Literal["<", ">"] | None = "<" if head[:2] == b"II" else ">" if head[:2] == b"MM" else None
    if order is None or len(head) < 8:
        raise UnreadableSource(f"{name} is no TIFF file: it holds {size} bytes and no TIFF header; upload it again")
    (version,) = struct.unpack(order + "H", head[2:4])
    if version not in (42, 43) or (version == 43 and len(head) < 16):
        raise UnreadableSource(
            f"{name} is a TIFF file of the unknown version {version}; export it as TIFF or BigTIFF"
        )
    walk = _Walk(files, file, order, big=version == 43)
    offset = walk.number(head, 8 if walk.big else 4)
    while offset:
        if offset in walk.seen:
            raise UnreadableSource(
                f"{name} is damaged: its page {len(walk.pages) + 1} is an earlier one; export it anew"
            )
        directory, offset = walk.read(offset)
        walk.pages.append(directory)
    if not walk.pages:
        raise UnreadableSource(f"{name} has a TIFF header but no page; upload it again")
    chain = Chain(files, file, order, tuple(walk.pages))
    for directory in walk.pages:
        for sub in chain.integers(directory, SUB_DIRECTORIES):
            if sub and sub not in walk.seen:
                walk.read(sub)
    return chain


class _Walk:
    """A file's directories as they are followed."""

    def __init__(self, files: Files, file: int, order: Literal["<", ">"], *, big: bool) -> None:
        self.files, self.file, self.order, self.big = files, file, order, big
        self.pages: list[Directory] = []
        self.seen: set[int] = set()
        entry, self._head, self._tail = (_BIG, 8, 8) if big else (_CLASSIC, 2, 4)
        self._entry = entry.newbyteorder(order)
        self._size = files.size(file)

    def number(self, block: bytes, at: int, *, count: bool = False) -> int:
        width = self._head if count else self._tail
        return int.from_bytes(block[at : at + width], "little" if self.order == "<" else "big")

    def read(self, offset: int) -> tuple[Directory, int]:
        """The directory at `offset`, and where the next one is; 0 for none."""
        self.seen.add(offset)
        block = self.files.read(self.file, offset, 1024)
        count = self.number(block, 0, count=True)
        values = self._head + count * self._entry.itemsize
        if len(block) < self._head or offset + values > self._size:
            raise self._cut(offset)
        if values + self._tail > len(block):
            block = self.files.read(self.file, offset, values + self._tail)
        entries = np.frombuffer(block, self._entry, count, self._head).copy()  # not all of the block with it
        lengths = _SIZES[entries["type"]] * np.minimum(entries["count"], np.uint64(self._size + 1))
        ends = np.minimum(entries["value"], np.uint64(self._size + 1)) + lengths
        outside = entries["code"][(lengths > self._tail) & (ends > self._size)]
        if len(outside):
            raise UnreadableSource(
                f"{self.files.name(self.file)} is damaged or cut off: tag {int(outside[0])} of page "
                f"{len(self.pages) + 1} lies behind the file's end at byte {self._size}; upload it again"
            )
        return Directory(offset, entries, self._tail), self.number(block, values)

    def _cut(self, offset: int) -> UnreadableSource:
        name = self.files.name(self.file)
        if not self.pages:
            return UnreadableSource(
                f"{name} ends after {self._size} bytes, before its first page (at byte {offset}); upload it again"
            )
        chain = Chain(self.files, self.file, self.order, tuple(self.pages))
        values = chain.page_values(self.pages[0])
        total = declared_pages(chain.description, values)
        complete = self._complete(chain, values)
        of = f" of {total}" if total and total > complete else ""
        return UnreadableSource(f"{name} ends after {complete}{of} pages; upload it again")

    def _complete(self, chain: Chain, page_values: int) -> int:
        """How many pages are in the file with all of their pixels, as far as directories tell."""
        placed = [list(zip(*chain.places(page), strict=False)) for page in self.pages]
        whole = [all(offset + length <= self._size for offset, length in places) for places in placed]
        complete = whole.index(False) if False in whole else len(whole)
        bits, packing = (chain.integers(self.pages[0], code) for code in (BITS, COMPRESSION))
        if complete == 1 and placed[0] and bits and packing in ((), (1,)) and page_values * bits[0] >= 8:
            # Pixels of all pages in one piece, and the other directories behind them.
            complete = max(1, (self._size - placed[0][0][0]) // (page_values * bits[0] // 8))
        return complete


def declared_pages(description: str, page_values: int) -> int | None:
    """How many pages a file has by its own description (ImageJ, tifffile, OME); None where it does not say."""
    if found := re.match(r"ImageJ=.*?^images=(\d+)", description, re.DOTALL | re.MULTILINE):
        return int(found[1])
    if found := re.match(r'(?:\{.*?"shape": \[([\d, ]+)\]|shape=\(([\d, ]+)\))', description):
        lengths = [int(length) for length in (found[1] or found[2]).split(",") if length.strip()]
        return math.prod(lengths) // page_values if page_values else None
    if "<OME" in description and (found := re.search(r"<Pixels\b[^>]*>", description)):
        sizes = dict(re.findall(r'Size([XYZCT])="(\d+)"', found[0]))
        return math.prod(map(int, sizes.values())) // page_values if page_values else None
    return None
