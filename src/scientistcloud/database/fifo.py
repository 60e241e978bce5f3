"""A bell between the processes of one machine: a FIFO in which a byte wakes one sleeper, and not all of them."""

from __future__ import annotations

import os
import select
import stat
import threading
from contextlib import suppress
from pathlib import Path

_ALL_BYTES = 65536
_HAS_EPOLL = hasattr(select, "EPOLLEXCLUSIVE")  # Linux


class Fifo:
    """The bell at `path`. Where the file system has no FIFOs, or something else lies there, it is never heard.

    On a network file system each machine hears its own bytes alone.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = _opened(path)
        # Nobody reads it: each `rouse` is another edge, which every thread's epoll tells of once.
        self._roused = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if _HAS_EPOLL else None
        self._mine = threading.local()

    def ring(self) -> None:
        """Wake one sleeper, of any process."""
        if self._descriptor is not None:
            with suppress(BlockingIOError):  # 64 KiB of unread bytes: nobody sleeps
                os.write(self._descriptor, b"\n")

    def rouse(self) -> None:
        """Wake every sleeper of this process, or who sleeps next. Only Linux can; elsewhere they sleep on."""
        if self._roused is not None:
            os.eventfd_write(self._roused, 1)

    def rung_within(self, seconds: float) -> bool:
        """Sleep until somebody rang or roused, for so long at most; whether that was so. However often: once."""
        heard = self._heard(seconds)
        if self._descriptor is None or self._descriptor not in heard:
            return self._roused in heard
        try:
            return bool(os.read(self._descriptor, _ALL_BYTES))
        except OSError:
            return self._roused in heard  # another sleeper was faster

    def close(self) -> None:
        for descriptor in (self._descriptor, self._roused):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._roused = None

    def _heard(self, seconds: float) -> list[int | None]:
        """Which of the two are heard within so many seconds."""
        if self._roused is None:  # not Linux
            fifos = [] if self._descriptor is None else [self._descriptor]
            return [*select.select(fifos, [], [], seconds)[0]]
        if (epoll := getattr(self._mine, "epoll", None)) is None:
            epoll = self._mine.epoll = select.epoll()
            epoll.register(self._roused, select.EPOLLIN | select.EPOLLET)
            if self._descriptor is not None:
                epoll.register(self._descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        return [descriptor for descriptor, _ in epoll.poll(seconds)]


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
