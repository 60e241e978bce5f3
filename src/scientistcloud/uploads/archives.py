"""Which files are archives: their name says so, or they have no suffix and their first bytes say so.

A name alone can lie, but what it promises is what the person expects, so a file called `.zip` that is none ends
as an error that says so. A `.npz` or `.docx` is a zip inside and stays what its name says.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path, PurePosixPath

HEAD_BYTES = 512


class Kind(StrEnum):
    """What the first bytes of a file say."""

    ZIP = "zip"
    TAR = "tar"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "Zstandard"
    RAR = "RAR"
    SEVEN_ZIP = "7z"
    OTHER = "other"


OPENED = "zip, tar, tar.gz, tar.bz2, tar.xz and tar.zst"
_MAGIC = (
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),  # an empty one
    (b"\x1f\x8b", Kind.GZIP),
    (b"BZh", Kind.BZIP2),
    (b"\xfd7zXZ\x00", Kind.XZ),
    (b"\x28\xb5\x2f\xfd", Kind.ZSTD),
    (b"Rar!\x1a\x07", Kind.RAR),
    (b"7z\xbc\xaf\x27\x1c", Kind.SEVEN_ZIP),
)
_SUFFIXES = (
    ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz", ".tar.lzma", ".tar.z", ".tar", ".tgz", ".tbz", ".tbz2",
    ".txz", ".tzst", ".zip", ".rar", ".7z",
)  # fmt: skip


def kind_of(path: Path) -> Kind:
    """What the first bytes of the file at `path` say."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        head = os.read(handle, HEAD_BYTES)
    finally:
        os.close(handle)
    if head[257:262] == b"ustar":
        return Kind.TAR
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), Kind.OTHER)


def is_archive(name: str, path: Path) -> bool:
    """Whether the file called `name`, which lies at `path`, is to be unpacked."""
    if suffix_of(name):
        return True
    return not PurePosixPath(name).suffix and kind_of(path) in (Kind.ZIP, Kind.TAR)


def suffix_of(name: str) -> str:
    """The part of `name` that says archive: ``.tar.gz``; empty where none does."""
    lower = PurePosixPath(name).name.lower()
    found = next((each for each in _SUFFIXES if lower.endswith(each) and len(lower) > len(each)), "")
    return name[len(name) - len(found) :] if found else ""


def folder_for(name: str) -> str:
    """The path of the folder into which the archive at the path `name` is unpacked: its own without the suffix.

    One without a suffix has its name already, so its folder is called otherwise.
    """
    suffix = suffix_of(name)
    return name.removesuffix(suffix) if suffix else f"{name}.unpacked"
