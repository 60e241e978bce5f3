"""A bell between the processes of one machine: a FIFO in which a byte wakes one sleeper, and not all of them."""

from __future__ import annotations

import os
import select
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path

_ALL_BYTES = 65536


class Fifo:
    """The bell at `path`. Where the file system has no FIFOs, or something else lies there, it is never heard.

    On a network file system each machine hears its own bytes alone.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = _opened(path)
        self._mine = threading.local()

    def ring(self) -> None:
        """Wake one sleeper, of any process."""
        if self._descriptor is not None:
            with suppress(BlockingIOError):  # 64 KiB of unread bytes: nobody sleeps
                os.write(self._descriptor, b"\n")

    def rung_within(self, seconds: float) -> bool:
        """Sleep until somebody rang, for so long at most; whether that was so. However often it rang: once."""
        if self._descriptor is None:
            time.sleep(seconds)
            return False
        if not self._readable(self._descriptor, seconds):
            return False
        try:
            return bool(os.read(self._descriptor, _ALL_BYTES))
        except (BlockingIOError, OSError):
            return False  # another sleeper was faster

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _readable(self, descriptor: int, seconds: float) -> bool:
        if not hasattr(select, "EPOLLEXCLUSIVE"):  # not Linux
            return bool(select.select([descriptor], [], [], seconds)[0])
        if (epoll := getattr(self._mine, "epoll", None)) is None:
            epoll = self._mine.epoll = select.epoll()
            epoll.register(descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        return bool(epoll.poll(seconds))


def _opened(path: Path) -> int | None:
    """Its descriptor; None where there can be none, and a slow look must do."""
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
