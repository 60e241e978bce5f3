"""Files that strangers named, written below one folder: nothing outside it is ever touched.

Each part of a path is opened relative to the folder before it, without following a link, and each file must be
new. A name is refused when it is not a plain relative one, lies too deep, or differs from an earlier one in
nothing but the case of its letters or the composition of its accents: on other machines the two are one file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scientistcloud.errors import InvalidParameters, NoSpace
from scientistcloud.layout import source_path

SYNCED_AT_ONCE_BYTES = 8 << 20
"""Larger files are synced as they end, so that the end of all of them is not one long wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One file that was written."""

    path: str
    size_bytes: int
    sha256: str


class Names:
    """The names of one tree, checked one by one. `check` says what is wrong with one, or None."""

    def __init__(self, *, depth: int) -> None:
        self._depth = depth
        #: Folded path -> the path as it came, and whether it is a folder.
        self._seen: dict[str, tuple[str, bool]] = {}

    def check(self, path: str, *, folder: bool = False) -> str | None:
        try:
            parts = source_path(path).parts
        except InvalidParameters as wrong:
            return str(wrong)
        if len(parts) > self._depth:
            return f"{path[:80]!r} lies {len(parts)} folders deep, more than {self._depth}"
        for length in range(1, len(parts) + 1):
            part = "/".join(parts[:length])
            is_folder = folder or length < len(parts)
            known = self._seen.setdefault(_folded(part), (part, is_folder))
            if known[0] != part:
                return f"{path!r} and {known[0]!r} are one name where the case of letters does not count"
            if known[1] != is_folder:
                return f"{part!r} is a file and a folder at once"
        return None

    def is_new(self, path: str) -> bool:
        return _folded(path) not in self._seen


def _folded(path: str) -> str:
    return path if path.isascii() and path.islower() else unicodedata.normalize("NFC", path).casefold()


class Tree:
    """The folder `root`, which exists and is ours alone, to be filled with files."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._root)

    def write(self, path: str, blocks: Iterable[bytes]) -> Written:
        """A new file at the checked path, of `blocks`; what was written. Raises `NoSpace`."""
        *folders, name = source_path(path).parts
        try:
            folder = self._folder(folders)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                file = os.open(name, flags, 0o644, dir_fd=folder)
            finally:
                os.close(folder)
            try:
                size_bytes, digest = 0, hashlib.sha256()
                for block in blocks:
                    _write_all(file, block)
                    digest.update(block)
                    size_bytes += len(block)
                if size_bytes >= SYNCED_AT_ONCE_BYTES:
                    os.fdatasync(file)
            finally:
                os.close(file)
        except OSError as failed:
            if failed.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(f"the disk is full at {path!r}; free some space, it is tried again") from failed
            raise
        return Written(path=path, size_bytes=size_bytes, sha256=digest.hexdigest())

    def free_bytes(self) -> tuple[int, int]:
        """What is free of the disk for us, and how large it is."""
        facts = os.fstatvfs(self._root)
        return facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize

    def _folder(self, parts: list[str]) -> int:
        handle = os.dup(self._root)
        for part in parts:
            try:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=handle)
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
            finally:
                os.close(handle)
            handle = inner
        return handle


def _write_all(file: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(file, view) :]
