"""The writers' lock: a file beside the database that names who is writing.

SQLite lets writers that collide sleep for up to a tenth of a second, and cannot say who holds it. Here they wait
at a `flock` ahead of the transaction, looking every millisecond or sooner, and whoever waits in vain is told the
process. The kernel gives the lock back when its holder dies.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from scientistcloud.errors import Unavailable

PATIENCE_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.000_03
_LONGEST_PAUSE_SECONDS = 0.001


class WriterLock:
    """Exclusive between the threads of this process and between processes. Not re-entrant."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._name = f"{os.getpid():<20}\n".encode()

    def acquire(self) -> None:
        """Raises `Unavailable`, naming the holder, after 5 s."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        if not self._threads.acquire(timeout=PATIENCE_SECONDS):
            raise Unavailable(self._complaint())
        try:
            pause = _FIRST_PAUSE_SECONDS
            while not self._taken():
                if time.monotonic() > deadline:
                    raise Unavailable(self._complaint())
                time.sleep(pause)
                pause = min(1.5 * pause, _LONGEST_PAUSE_SECONDS)
            os.pwrite(self._file, self._name, 0)
        except BaseException:
            self._threads.release()
            raise

    def release(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def close(self) -> None:
        """Let go of the file. A forked child's copy can be closed too: it does not unlock for the parent."""
        os.close(self._file)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _complaint(self) -> str:
        pid = os.pread(self._file, 20, 0).decode(errors="replace").strip() or "unknown"
        return (
            f"process {pid}{_program(pid)} has been writing to the database {self._path.with_suffix('')} for more "
            f"than {PATIENCE_SECONDS:.0f} s; if it was stopped, continue it (kill -CONT {pid}) or end it"
        )


def _program(pid: str) -> str:
    try:
        return f" ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except OSError:
        return ""
