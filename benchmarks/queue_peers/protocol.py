"""What the program of each queue offers to `benchmarks/queue.py`. The standard library alone: it runs in any
environment.

    PROGRAM version
    PROGRAM prepare WHERE              make the schema, where there is one
    PROGRAM enqueue WHERE SECONDS      jobs a second from one thread, from eight, in hundreds: JSON
    PROGRAM fill WHERE JOBS
    PROGRAM create WHERE               a job for each line on standard input, carrying the moment of the call
    PROGRAM work WHERE BATCH           a worker, until it is killed

A job's work is `report`: one write of 16 bytes to the file or FIFO that MARKS names, so that a measurement sees
every job from outside, in whichever process it ran.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version

Create = Callable[[float], object]
"""Creates one job that will `report` with this moment."""

MARK = struct.Struct("<dd")
_files: dict[int, int] = {}


def report(began: float) -> None:
    """The work: the moment at which the job was asked for, and the present one."""
    file = _files.get(os.getpid())
    if file is None:
        file = _files[os.getpid()] = os.open(os.environ["MARKS"], os.O_WRONLY | os.O_APPEND)
    os.write(file, MARK.pack(began, time.monotonic()))


def main(
    distribution: str,
    *,
    creator: Callable[[str], Create],
    work: Callable[[str], None],
    work_in_batches: Callable[[str, int], None] | None = None,
    creator_of_many: Callable[[str], Callable[[int], object]] | None = None,
    prepare: Callable[[str], None] | None = None,
) -> None:
    """Carry out the command line.

    `creator` is called by each thread for itself; who shares a connection between threads returns the same.
    Where the queue can: `creator_of_many` makes so many jobs in one go, `work_in_batches` claims so many.
    """
    match sys.argv[1:]:
        case ["version"]:
            print(version(distribution))
        case ["prepare", where]:
            if prepare is not None:
                prepare(where)
        case ["enqueue", where, seconds]:
            rates = {str(n): _rate(lambda: creator(where), threads=n, seconds=float(seconds)) for n in (1, 8)}
            if creator_of_many is not None:
                many = creator_of_many(where)
                rates["many"] = 100 * _rate(lambda: lambda _: many(100), threads=1, seconds=float(seconds))
            print(json.dumps(rates), flush=True)
        case ["fill", where, jobs]:
            _fill(int(jobs), creator(where), creator_of_many and creator_of_many(where))
        case ["create", where]:
            create = creator(where)
            print("ready", flush=True)
            for _ in sys.stdin:
                create(time.monotonic())
        case ["work", where, "1"]:
            work(where)
        case ["work", where, batch] if work_in_batches is not None:
            work_in_batches(where, int(batch))
        case _:
            sys.exit(__doc__)
    sys.stdout.flush()
    os._exit(0)  # some clients' threads would hold up the end


def _fill(jobs: int, create: Create, create_many: Callable[[int], object] | None) -> None:
    if create_many is None:
        for _ in range(jobs):
            create(0.0)
    else:
        for begin in range(0, jobs, 100):
            create_many(min(100, jobs - begin))


def _rate(creator: Callable[[], Create], *, threads: int, seconds: float) -> float:
    """Calls a second from so many threads together, once all of them are ready."""
    counts: list[int] = []
    ready = threading.Barrier(threads + 1)

    def on_and_on() -> None:
        create = creator()
        create(0.0)
        ready.wait()
        until, done = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            create(0.0)
            done += 1
        counts.append(done)

    each = [threading.Thread(target=on_and_on) for _ in range(threads)]
    for thread in each:
        thread.start()
    ready.wait()
    begin = time.monotonic()
    for thread in each:
        thread.join()
    return sum(counts) / (time.monotonic() - begin)
