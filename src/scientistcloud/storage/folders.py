"""Folders of data sets: what is in them, durably renamed, put out of the way, removed."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from scientistcloud.errors import InvalidParameters, NoSpace, Unavailable
from scientistcloud.layout import DatasetFolder

RUBBISH = ".rubbish."
_SYNCED_ONE_BY_ONE = 1000


@contextmanager
def translated(folder: DatasetFolder) -> Iterator[None]:
    try:
        yield
    except OSError as failed:
        if failed.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"the disk of {folder.root} is full; free some space, it is tried again") from failed
        raise Unavailable(f"{failed.filename or folder.root} cannot be used: {failed.strerror}") from failed


def named_like(folder: DatasetFolder, prefix: str) -> list[str]:
    return [name for name in names_in(folder.root) if name.startswith(prefix)]


def names_in(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]


def number_of(name: str) -> int:
    """The token in a folder's name; 0 in one that is not ours, which makes it the oldest."""
    number = name.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdecimal() else 0


def put_in_rubbish(folder: DatasetFolder, names: Sequence[str]) -> list[Path]:
    """Rename `names` out of the way, so that removing them need not be quick; where they are now."""
    gone = []
    for name in names:
        to = folder.root / (name if name.startswith(RUBBISH) else f"{RUBBISH}{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            (folder.root / name).rename(to)
            gone.append(to)
    return gone


def remove(paths: Sequence[Path]) -> None:
    """Remove what can be; an attempt that is just being killed may still write there, and care comes by again."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        for made in (path, path.parent):
            sync(made.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_many(path: Path) -> None:
    """As `sync_tree`; of many files at once, where the system can write down a whole file system."""
    kinds = [stat.S_IFMT(each.lstat().st_mode) for each in (path, *path.rglob("*"))]
    if any(kind not in (stat.S_IFREG, stat.S_IFDIR) for kind in kinds):
        raise InvalidParameters(f"{path} holds what is neither file nor folder, so it cannot be published")
    if len(kinds) > _SYNCED_ONE_BY_ONE:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(handle) == 0:
                return
        except AttributeError:
            pass  # another system's library
        finally:
            os.close(handle)
    sync_tree(path)


def sync_tree(path: Path) -> None:
    """Everything at and below `path` to the disk; costs little where its writer has done so already.

    Raises `InvalidParameters` for a link or a device: what is published holds its own bytes.
    """
    kind = stat.S_IFMT(path.lstat().st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise InvalidParameters(f"{path} is neither file nor folder, so it cannot be published")
    if kind == stat.S_IFDIR:
        for inside in path.iterdir():
            sync_tree(inside)
    sync(path)
