"""Measurements that are the same for every queue: from outside, by what its jobs report."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from protocol import MARK
from servers import Place

Figures = dict[str, float]

WORKERS = 2


class Program:
    """The program of one queue, in its environment, with a place for its jobs."""

    def __init__(self, python: str, program: str, place: Place) -> None:
        self._command = [python, str(Path(__file__).with_name(program))]
        self.place = place

    def say(self, *words: object, seconds: float = 300) -> str:
        """What it answers. Raises `subprocess.SubprocessError`."""
        command = [*self._command, *map(str, words)]
        done = subprocess.run(command, check=True, text=True, timeout=seconds, stdout=subprocess.PIPE)
        return done.stdout.strip()

    def fresh(self) -> str:
        """An empty place, ready for jobs."""
        where = self.place.fresh()
        self.say("prepare", where)
        return where

    @contextmanager
    def running(self, *words: object, marks: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """While open, the program runs; it and its children are killed afterwards."""
        environment = os.environ | {"PYTHONWARNINGS": "ignore"} | ({} if marks is None else {"MARKS": str(marks)})
        process = subprocess.Popen(
            [*self._command, *map(str, words)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.communicate()


def enqueue(program: Program, *, seconds: float) -> Figures:
    """Durable creations a second: `1`, `8` threads, in hundreds (`many`)."""
    rates: Figures = json.loads(program.say("enqueue", program.fresh(), seconds))
    return {f"enqueue {name}": rate for name, rate in rates.items()}


def drain(program: Program, *, jobs: int, batch: int, seconds: float = 120) -> Figures:
    """Jobs a second that two workers get through, and the size of one that waits.

    Counted from the first to the last tenth: how long a program takes to start does not matter.
    """
    where = program.fresh()
    empty = program.place.size_bytes(where)
    program.say("fill", where, jobs)
    size_bytes = program.place.size_bytes(where) - empty
    with tempfile.NamedTemporaryFile() as marks:
        crew = [program.running("work", where, batch, marks=Path(marks.name)) for _ in range(WORKERS)]
        with crew[0] as first, crew[1] as second:
            until = time.monotonic() + seconds
            while (done := Path(marks.name).stat().st_size // MARK.size) < jobs:
                if time.monotonic() > until or first.poll() is not None or second.poll() is not None:
                    raise TimeoutError(f"{done} of {jobs} jobs were done within {seconds:.0f} s")
                time.sleep(0.05)
        moments = sorted(
            moment for _, moment in MARK.iter_unpack(Path(marks.name).read_bytes()[: jobs * MARK.size])
        )
    tenth = jobs // 10
    return {
        f"drain {batch}": (jobs - 2 * tenth) / (moments[-tenth] - moments[tenth]),
        "bytes": size_bytes / jobs,
    }


def pick_up(program: Program, *, samples: int, folder: Path) -> Figures:
    """Milliseconds from the call that creates a job to its run by a worker that was idle; then the idle cost."""
    where = program.fresh()
    marks = folder / "marks.fifo"
    os.mkfifo(marks)
    listener = os.open(marks, os.O_RDWR)  # for both, so that opening never waits
    took: list[float] = []
    try:
        with (
            program.running("work", where, 1, marks=marks) as worker,
            program.running("create", where) as creator,
        ):
            assert creator.stdin is not None
            assert creator.stdout is not None
            creator.stdout.readline()

            def one() -> float:
                creator.stdin.write(b"\n")
                creator.stdin.flush()
                began, now = MARK.unpack(os.read(listener, MARK.size))
                return 1000 * float(now - began)

            for _ in range(10):
                one()  # both have started and are warm
            for _ in range(samples):
                time.sleep(random.uniform(0.01, 0.02))  # it is asleep again, and no rhythm meets another
                took.append(one())
            creator.kill()
            idle, server = _busy([worker.pid], program.place.processes())
    finally:
        os.close(listener)
        marks.unlink()
    took.sort()
    return {
        "pick-up p50": statistics.median(took),
        "pick-up p99": took[min(int(0.99 * len(took)), len(took) - 1)],
        "pick-up worst": took[-1],
        "idle": idle,
        "idle server": server,
    }


def _busy(worker: Sequence[int], server: Sequence[int], *, seconds: float = 5.0) -> tuple[float, float]:
    """Percent of a core that an idle worker takes, and that its server takes."""
    time.sleep(1)
    before = _cpu_seconds(worker), _cpu_seconds(server)
    time.sleep(seconds)
    after = _cpu_seconds(worker), _cpu_seconds(server)
    return 100 * (after[0] - before[0]) / seconds, 100 * (after[1] - before[1]) / seconds


def _cpu_seconds(roots: Sequence[int]) -> float:
    """Of these processes and all below them."""
    total, left = 0, list(roots)
    while left:
        process = Path(f"/proc/{left.pop()}")
        for task in process.glob("task/*"):
            with suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
                left += map(int, (task / "children").read_text().split())
    return total / 1e9
