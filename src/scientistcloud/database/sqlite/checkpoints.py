"""The log is brought into the database beside the writers, who would wait for the disk with the lock in hand.

SQLite by itself does it inside the commit that makes the log long. Here a thread with a connection of its own does,
and commits go on meanwhile. Where it cannot keep up (its process was stopped, its disk stalls), the log grows to
`FALLBACK_PAGES`, and then SQLite does as it always did.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable

from scientistcloud.database.sqlite.descriptors import Descriptor
from scientistcloud.database.sqlite.locking import WriterLock
from scientistcloud.errors import Unavailable

logger = logging.getLogger(__name__)

CHANGED_ROWS = 500
"""How many rows this process changes between two checkpoints: about 7 MiB of log, as the rows of jobs go."""
GROWN_BYTES = 2 << 20
"""A checkpoint is due as well when the log's file has grown by so much: rows may be large, and disks small."""

FALLBACK_PAGES = 16_384
# A log to which others always add something never begins anew, and syncing one that grows takes twice as long. So
# from `_LONG_PAGES` on they wait while the last `_FEW_PAGES` are brought in, if the disk was quick with the others.
_LONG_PAGES = 1000
_FEW_PAGES = 250
_TIMES = 2
_QUICK_SECONDS = 0.1


class Checkpoints:
    """The thread, begun with the first checkpoint.

    `connect` opens the connection, which its caller closes; `file` is the database's.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], file: Descriptor, lock: WriterLock) -> None:
        self._connect = connect
        self._file = file
        self._lock = lock
        self._rows_then = self._bytes_then = 0
        self._failed = False
        self._wanted = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def note_commit(self, changed_rows: int, log_bytes: int) -> None:
        """Something was committed; by now its connection has changed so many rows, and the log's file is so long.

        Its caller holds the lock.
        """
        many = changed_rows - self._rows_then >= CHANGED_ROWS
        if many or log_bytes - self._bytes_then >= GROWN_BYTES or self._failed:
            self._rows_then, self._bytes_then = changed_rows, log_bytes
            self.want()

    def want(self) -> None:
        """Have one made. The caller holds the lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
            self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        """Wait for the thread to end."""
        self._closed = True
        if self._thread is not None:
            self._wanted.set()
            self._thread.join()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while self._wanted.wait() and not self._closed:
            self._wanted.clear()
            try:
                connection = connection or self._connect()
                self._checkpoint(connection)
                self._failed = False
            except (sqlite3.Error, OSError, Unavailable) as error:
                # Nothing is lost: the log keeps it, and the next commit has it tried again.
                if not self._failed:
                    logger.warning("the log of the database could not be brought into it: %s", error)
                self._failed = True

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        for _ in range(_TIMES):
            began = time.monotonic()
            pages, left = _brought_in(connection)
            if left < _FEW_PAGES:
                break
        if pages > _LONG_PAGES and left < _FEW_PAGES:
            # SQLite itself leaves this to whoever brings the last page in.
            os.fsync(self._file.number)
            if time.monotonic() - began < _QUICK_SECONDS:
                self._lock.acquire()
                try:
                    _brought_in(connection)
                finally:
                    self._lock.release()


def _brought_in(connection: sqlite3.Connection) -> tuple[int, int]:
    """Copy what nobody reads any more: the pages of the log, and how many are left; 0 where another is at it."""
    busy, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return (0, 0) if busy else (pages, pages - copied)
