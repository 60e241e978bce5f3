"""The disk: whether there is room, that it is full, and what is durable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scientistcloud.errors import NoSpace

_NO_SPACE = ("ENOSPC", "EDQUOT", "No space left", "Disk quota exceeded")


@contextmanager
def disk(store: Path) -> Iterator[None]:
    """Says in our words that the disk is full, whoever of us, Python and tensorstore noticed it."""
    try:
        yield
    except NoSpace:
        raise
    except Exception as failed:
        if any(sign in f"{failed!r} {failed}" for sign in _NO_SPACE):
            raise NoSpace(
                f"the disk is full: {store.name} could not be written; free some space and try again"
            ) from failed
        raise


def check_space(store: Path, needed_bytes: int) -> None:
    """Raise `NoSpace` where `store` would need more than is free."""
    free = shutil.disk_usage(store.parent).free
    if needed_bytes > free:
        raise NoSpace(
            f"the disk has {free / 2**30:.1f} GiB left and {store.name} needs about "
            f"{needed_bytes / 2**30:.1f} GiB; free some space and try again"
        )


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(store: Path) -> None:
    """Make the store durable. Its shards are already, which makes it quick; metadata and folders follow."""
    for folder, _, names in os.walk(store, topdown=False):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))
