"""One descriptor of a database's file for the whole process, by which the file is looked at and synced.

A process loses its POSIX locks on a file, SQLite's among them, when it closes *any* descriptor of that file
(https://www.sqlite.org/howtocorrupt.html, section 2.2). So all that open the same file here share a descriptor, and
the last of them closes it, after its connections.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

_mutex = threading.Lock()


@dataclass(eq=False, slots=True)
class Descriptor:
    """`number` is the descriptor; `users` have not closed it yet."""

    inode: tuple[int, int]
    number: int
    users: int = 0

    def close(self) -> None:
        with _mutex:
            self.users -= 1
            if not self.users:
                del _shared[self.inode]
                os.close(self.number)


_shared: dict[tuple[int, int], Descriptor] = {}


def descriptor_of(path: Path) -> Descriptor:
    """Of an existing file; to be closed as often as it was asked for."""
    with _mutex:
        found = path.stat()
        shared = _shared.get((found.st_dev, found.st_ino))
        if shared is None:
            number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            opened = os.fstat(number)
            shared = Descriptor((opened.st_dev, opened.st_ino), number)
            _shared[shared.inode] = shared
        shared.users += 1
    return shared
