"""Sleep until there may be work: a FIFO beside the database, with a slow look as the safety net.

Who commits something claimable writes one byte, which wakes one sleeper and not all of them (`EPOLLEXCLUSIVE`): a
hundred idle workers would all look for the one job. A claim that leaves more behind writes the next byte, so many
jobs wake many workers one after the other. A byte that nobody could use (its reader died, or runs other job types)
costs at most one look-round: sleepers also look at `PRAGMA data_version` twice a second, and at the next due time.
"""

from __future__ import annotations

import os
import select
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from scientistcloud.database.sqlite.connection import Database

_LOOK_ROUND_SECONDS = 0.5
_ALL_BYTES = 65536


class Waking:
    """The bell beside the database of `database`.

    `seconds_to_next_due` says how long it is until a job's time comes, None where none waits for it.
    """

    def __init__(self, database: Database, seconds_to_next_due: Callable[[], float | None]) -> None:
        self._database = database
        self._seconds_to_next_due = seconds_to_next_due
        self._mine = threading.local()
        self._fifo = _open_fifo(database.path.with_name(database.path.name + ".wake"))

    def ring(self) -> None:
        """Wake one sleeper, of any process."""
        if self._fifo is not None:
            with suppress(BlockingIOError):  # 64 KiB of unread bytes: nobody sleeps
                os.write(self._fifo, b"\n")

    def sleep(self, seconds: float) -> bool:
        """Until somebody rang, something was committed since this thread woke last, or a job is due."""
        deadline = time.monotonic() + seconds
        until_due = self._seconds_to_next_due()
        due = None if until_due is None else time.monotonic() + until_due
        while True:
            mark = self._database.change_mark()
            if mark != getattr(self._mine, "mark", None):
                self._mine.mark = mark
                return True
            now = time.monotonic()
            if due is not None and now >= due:
                return True
            if now >= deadline:
                return False
            pause = min(_LOOK_ROUND_SECONDS, deadline - now, *([] if due is None else [due - now]))
            if self._rung_within(pause):
                return True

    def close(self) -> None:
        if self._fifo is not None:
            os.close(self._fifo)
            self._fifo = None

    def _rung_within(self, seconds: float) -> bool:
        fifo = self._fifo
        if fifo is None:
            time.sleep(seconds)
            return False
        if not self._readable(fifo, seconds):
            return False
        try:
            # All of them: one look finds all there is, and a claim that leaves some behind rings again.
            return bool(os.read(fifo, _ALL_BYTES))
        except (BlockingIOError, OSError):
            return False  # another sleeper was faster

    def _readable(self, fifo: int, seconds: float) -> bool:
        if not hasattr(select, "EPOLLEXCLUSIVE"):  # not Linux
            return bool(select.select([fifo], [], [], seconds)[0])
        if (epoll := getattr(self._mine, "epoll", None)) is None:
            epoll = self._mine.epoll = select.epoll()
            epoll.register(fifo, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        return bool(epoll.poll(seconds))


def _open_fifo(path: Path) -> int | None:
    """Its descriptor; None where the file system has no FIFOs, and the slow look must do."""
    try:
        if not path.exists():
            os.mkfifo(path, 0o660)
    except OSError:
        if not path.exists():
            return None
    try:
        # Open for both, so that opening never waits and writing never fails for want of a reader.
        fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISFIFO(os.fstat(fifo).st_mode):
        return fifo
    os.close(fifo)
    return None
