"""A small process beside `convert`, which ends it where a library in C does not come back.

Over a few damaged files libhdf5 loops for ever and holds Python's lock meanwhile: no thread, signal or Ctrl-C
reaches the conversion any more. Run as a program it is this file alone, and imports nothing of ours.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GRACE_SECONDS = 5.0  # after Ctrl-C, for a conversion that can end by itself


@contextmanager
def watched(
    name: str, *, leftover: Path, stall_seconds: float, report: Callable[[float, str], None]
) -> Iterator[Callable[[float, str], None]]:
    """Give a `report` that is watched: where it says nothing new for `stall_seconds`, this process is ended.

    Whatever ends this process, `leftover` is removed.
    """
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(leftover), str(stall_seconds), name]
    watchman = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)  # noqa: S603
    assert watchman.stdin is not None
    mouth = watchman.stdin
    os.set_blocking(mouth.fileno(), False)
    last: list[tuple[float, str]] = []

    def told(fraction: float, step: str) -> None:
        if last != [(fraction, step)]:
            last[:] = [(fraction, step)]
            with suppress(OSError):  # a full pipe says it as well; without a watchman we go on
                mouth.write(b".")
        report(fraction, step)

    try:
        yield told
    finally:
        mouth.close()
        watchman.wait()


def _watch(process: int, leftover: str, stall_seconds: float, name: str) -> None:
    ended: list[float] = []
    signal.signal(signal.SIGINT, lambda *_: ended.append(time.monotonic() + _GRACE_SECONDS))
    heard = time.monotonic()
    while True:
        now = time.monotonic()
        until = min([heard + stall_seconds, *ended[:1]])
        if now >= until:
            why = "it was interrupted" if ended else f"nothing was read for {stall_seconds:g} s"
            print(
                f"\nscientistcloud: {name}: {why}, and the library that reads it does not come back; the file is "
                "damaged: upload or copy it again, or allow it more time with --stall",
                file=sys.stderr,
            )
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            break
        if select.select([0], [], [], min(until - now, 1.0))[0]:
            if not os.read(0, 4096):
                break
            heard = time.monotonic()
    while select.select([0], [], [], 10)[0] and os.read(0, 4096):
        pass  # until it is gone
    shutil.rmtree(leftover, ignore_errors=True)


if __name__ == "__main__":
    _watch(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4])
