"""A tar as it arrives, file by file: plain files alone, each small, each under a safe name.

Read here and not by `tarfile`, which takes as long for the header of one file as its content takes to be stored.
ustar, pax and GNU's long names are understood; whatever is no plain file or folder is refused by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from scientistcloud.errors import InvalidParameters
from scientistcloud.layout import checked_path

BLOCK = 512
_ZERO = bytes(BLOCK)
_LONGEST_HEADER = 64 * 1024  # of a pax header or a long name
_FILE, _FOLDER, _PAX, _PAX_FOR_ALL, _LONG_NAME = b"0\0007", b"5", b"x", b"g", b"L"
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a FIFO"}


class SmallFile(NamedTuple):
    """A file of a tar."""

    #: As `layout.checked_path` allows it.
    path: str
    content: memoryview


class TarStream:
    """`feed` it blocks as they come; `end` says whether that was all. Both raise `InvalidParameters`."""

    def __init__(self, *, largest_bytes: int) -> None:
        self._largest = largest_bytes
        self._left = b""
        self._skip = 0
        self._ended = False
        # What a pax header or a long name said of the file that follows it.
        self._path: str | None = None
        self._size: int | None = None

    def feed(self, block: bytes | memoryview) -> Iterator[SmallFile]:
        """The files that are whole now; each is to be used before the next one is asked for."""
        data = b"".join((self._left, block)) if self._left else bytes(block)
        # The padding of the file before may have been yet to come.
        view, at = memoryview(data), self._skip
        while not self._ended and at + BLOCK <= len(data):
            header = data[at : at + BLOCK]
            if header == _ZERO:
                self._ended = True
                break
            kind, path, size = self._entry(header)
            start, stop = at + BLOCK, at + BLOCK + size
            if stop > len(data):
                break
            at = start + -(-size // BLOCK) * BLOCK
            if kind in _FILE:
                self._path = self._size = None
                yield SmallFile(path, view[start:stop])
            elif kind == _FOLDER:
                self._path = self._size = None
            elif kind == _LONG_NAME:
                self._path = _text(data[start:stop].rstrip(b"\0"))
            elif kind == _PAX:
                self._take(_records(data[start:stop]))
            elif "path" in _records(data[start:stop]):
                raise InvalidParameters("the tar gives one path to all of its files; write it anew")
        self._left, self._skip = data[at:], max(0, at - len(data))

    def end(self) -> None:
        """Raises where the last file is not whole."""
        if (self._left or self._path is not None) and not self._ended:
            raise InvalidParameters(
                f"the tar ends in the middle of a file, {len(self._left)} bytes in; send it again"
            )

    def _entry(self, header: bytes) -> tuple[bytes, str, int]:
        """Kind, path and size of what follows `header`, checked."""
        if header[257:262] not in (b"ustar", b"\0\0\0\0\0") or sum(header[:148]) + 256 + sum(
            header[156:]
        ) != _number(header[148:156]):
            raise InvalidParameters("that is no tar, or a damaged one; make it with `tar -c`, uncompressed")
        kind, size = header[156:157], _number(header[124:136])
        if kind in (_PAX, _PAX_FOR_ALL, _LONG_NAME):
            if size > _LONGEST_HEADER:
                raise InvalidParameters(f"a header of the tar takes {size} bytes; shorten the names in it")
            return kind, "", size
        path = self._path if self._path is not None else _path(header)
        path = path.removeprefix("./")
        size = self._size if self._size is not None else size
        if kind == _FOLDER:
            if path.strip("/") not in ("", "."):
                checked_path(path.rstrip("/"))
            return kind, path, 0
        if kind not in _FILE:
            what = _KINDS.get(kind, f"of the kind {kind.decode(errors='replace')!r}")
            raise InvalidParameters(f"{path[:200]!r} is {what}; a batch takes plain files alone")
        checked_path(path)
        if size > self._largest:
            raise InvalidParameters(
                f"{path[:200]!r} has {size} bytes; a batch takes files up to {self._largest}, upload it by itself"
            )
        return kind, path, size

    def _take(self, records: dict[str, str]) -> None:
        if any(name.startswith("GNU.sparse") for name in records):
            raise InvalidParameters("the tar holds a sparse file; make it without --sparse")
        self._path = records.get("path", self._path)
        if "size" in records:
            if not records["size"].isdecimal() or len(records["size"]) > 18:
                raise InvalidParameters(
                    f"the tar says that a file has {records['size'][:40]!r} bytes; write it anew"
                )
            self._size = int(records["size"])


def _path(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return _text(name)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidParameters(f"the name {name[:60]!r} in the tar is no UTF-8; rename the file") from None


def _number(field: bytes) -> int:
    """A number in octal, or (GNU, for large ones) in bytes after a set bit."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        raise InvalidParameters("a number in the tar cannot be read; write it anew") from None


def _records(data: bytes) -> dict[str, str]:
    """The records of a pax header: ``LENGTH KEY=VALUE`` and a line feed each."""
    records, at = {}, 0
    try:
        while at < len(data) and data[at]:
            length = int(data[at : data.index(b" ", at)])
            key, _, value = data[at : at + length].partition(b" ")[2].removesuffix(b"\n").partition(b"=")
            if length <= 0:
                raise ValueError(length)
            records[key.decode()] = value.decode()
            at += length
    except ValueError:
        raise InvalidParameters("a header of the tar cannot be read; write it anew") from None
    return records
