"""A zip that is never whole anywhere: written as it is sent, stored and not compressed, ZIP64 throughout.

Sizes are known beforehand, so the length of the whole is too, and a reader that lost its line can go on in the
middle: the layout follows from the names and sizes alone. Only the CRC of a file has to be found again by reading
it, where this process has not sent it lately. (PKWARE's APPNOTE 6.3.10, 4.3.7 ff.)
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

BLOCK_BYTES = 2**20

_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_64 = struct.Struct("<HHQQ")
_DESCRIPTOR = struct.Struct("<4sIQQ")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_CENTRAL_64 = struct.Struct("<HHQQQ")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
_VERSION, _MADE_BY_UNIX = 45, 3 << 8 | 45
_FLAGS = 1 << 3 | 1 << 11  # CRC behind the file, names in UTF-8
_MODE = 0o100644 << 16
_FULL = 0xFFFFFFFF


class Member(NamedTuple):
    """A file of the zip."""

    name: str
    size_bytes: int


class Changed(Exception):
    """A file is not what it was when its size was noted; the zip cannot be finished."""


class ZipStream:
    """The zip of `members`.

    Parameters
    ----------
    open_member
        Opens a member for reading, by its index; the descriptor is closed here.
    checksums
        CRCs that are known, by index; those that are found are added. To be kept for the next part of the same zip.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        modified: datetime,
        open_member: Callable[[int], int],
        checksums: dict[int, int],
    ) -> None:
        self._members = members
        self._open = open_member
        self._crcs = checksums
        self._date = (max(0, modified.year - 1980) << 9) | (modified.month << 5) | modified.day
        self._time = (modified.hour << 11) | (modified.minute << 5) | (modified.second // 2)
        names = [len(member.name.encode()) for member in members]
        self._files_bytes = sum(
            _LOCAL.size + name + _LOCAL_64.size + member.size_bytes + _DESCRIPTOR.size
            for name, member in zip(names, members, strict=True)
        )
        self._central_bytes = sum(_CENTRAL.size + name + _CENTRAL_64.size for name in names)
        #: Of the whole zip.
        self.size_bytes = self._files_bytes + self._central_bytes + _END_64.size + _LOCATOR.size + _END.size

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`. Raises `Changed`, `OSError`."""
        at = 0
        for piece in self._pieces(start):
            size = piece if isinstance(piece, int) else len(piece)
            if not isinstance(piece, int) and at + size > start:
                yield piece[max(0, start - at) : stop - at]
            at += size
            if at >= stop:
                return

    def _pieces(self, start: int) -> Iterator[bytes | int]:
        """Everything in order; what lies before `start` may be its length alone."""
        at = 0
        offsets = []
        for index, member in enumerate(self._members):
            offsets.append(at)
            head = self._local(member)
            yield head
            at += len(head)
            if at + member.size_bytes <= start and index in self._crcs:
                yield member.size_bytes
            else:
                yield from self._content(index, member)
            at += member.size_bytes + _DESCRIPTOR.size
            yield _DESCRIPTOR.pack(b"PK\7\10", self._crcs[index], member.size_bytes, member.size_bytes)
        for index, member in enumerate(self._members):
            yield self._central(member, self._crcs[index], offsets[index])
        yield self._end()

    def _content(self, index: int, member: Member) -> Iterator[bytes]:
        handle = self._open(index)
        try:
            crc, left = 0, member.size_bytes
            while left and (block := os.read(handle, min(BLOCK_BYTES, left))):
                crc, left = zlib.crc32(block, crc), left - len(block)
                yield block
            if left or os.read(handle, 1):
                raise Changed(f"{member.name} changed while it was sent")
            self._crcs[index] = crc
        finally:
            os.close(handle)

    def _local(self, member: Member) -> bytes:
        name = member.name.encode()
        return (
            _LOCAL.pack(
                b"PK\3\4", _VERSION, _FLAGS, 0, self._time, self._date, 0, _FULL, _FULL, len(name), _LOCAL_64.size
            )
            + name
            + _LOCAL_64.pack(1, 16, member.size_bytes, member.size_bytes)
        )

    def _central(self, member: Member, crc: int, offset: int) -> bytes:
        name = member.name.encode()
        return (
            _CENTRAL.pack(
                b"PK\1\2", _MADE_BY_UNIX, _VERSION, _FLAGS, 0, self._time, self._date, crc, _FULL, _FULL,
                len(name), _CENTRAL_64.size, 0, 0, 0, _MODE, _FULL,
            )
            + name
            + _CENTRAL_64.pack(1, 24, member.size_bytes, member.size_bytes, offset)
        )  # fmt: skip

    def _end(self) -> bytes:
        count = len(self._members)
        return (
            _END_64.pack(
                b"PK\6\6", _END_64.size - 12, _MADE_BY_UNIX, _VERSION, 0, 0, count, count, self._central_bytes,
                self._files_bytes,
            )
            + _LOCATOR.pack(b"PK\6\7", 0, self._files_bytes + self._central_bytes, 1)
            + _END.pack(b"PK\5\6", 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), _FULL, _FULL, 0)
        )  # fmt: skip
