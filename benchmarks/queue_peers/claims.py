"""How long a claim takes beside few and many jobs, in several shapes: here and in Procrastinate.

The files of all sizes are open together and claimed from in turn, so that all meet the same machine.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from measuring import Figures, Program
from scientistcloud_sqlite import a_job, opened

from scientistcloud import JobQueueManager

CLAIMS = 300
BLOCKED = (1_000, 10_000)
_AT_ONCE = 1000


def ours(folder: Path, sizes: Sequence[int]) -> Figures:
    """Median milliseconds of a claim, for each shape and size."""
    figures: Figures = {}
    one, tomorrow = str(uuid.uuid4()), datetime.now(UTC) + timedelta(days=1)
    shapes: dict[str, Callable[[], dict[str, Any]]] = {
        "each its data set": a_job,
        "all of one data set": lambda: a_job(dataset_uuid=one),
        "all due tomorrow": lambda: a_job(run_at=tomorrow),
    }
    for shape, make in shapes.items():
        print(f"claims beside many jobs, {shape} ...", file=sys.stderr)
        queues: dict[str, JobQueueManager] = {}
        for size in sizes:
            queue = queues[f"claim {size} {shape}"] = opened(str(folder / f"{size}.db"))
            for _ in range(size // _AT_ONCE):
                queue.create_jobs([make() for _ in range(_AT_ONCE)])
            if shape == "all due tomorrow":
                queue.create_jobs([a_job() for _ in range(CLAIMS + 1)])
        figures |= _claim_in_turn(queues)
        for path in folder.glob("*.db*"):
            path.unlink()
    return figures


def beside_blocked(folder: Path) -> Figures:
    """The same beside jobs that wait behind a running one of their data set."""
    queues = {}
    for size in BLOCKED:
        queue = queues[f"claim blocked {size}"] = opened(str(folder / f"{size}.db"))
        busy = str(uuid.uuid4())
        queue.create_job(**a_job(dataset_uuid=busy))
        assert queue.get_next_job("busy")
        for _ in range(size // _AT_ONCE):
            queue.create_jobs([a_job(dataset_uuid=busy) for _ in range(_AT_ONCE)])
        queue.create_jobs([a_job() for _ in range(CLAIMS + 1)])
    return _claim_in_turn(queues)


def procrastinate(program: Program) -> Figures:
    """Its fetch beside jobs that wait behind a running one with their lock."""
    figures: Figures = {}
    for size in BLOCKED:
        took = json.loads(program.say("blocked", program.fresh(), size))
        figures[f"claim blocked {size}"] = 1000 * statistics.median(took)
    return figures


def _claim_in_turn(queues: dict[str, JobQueueManager]) -> Figures:
    took: dict[str, list[float]] = {name: [] for name in queues}
    for turn in range(CLAIMS + 1):
        for name, queue in queues.items():
            begin = time.perf_counter()
            job = queue.get_next_job("w")
            end = time.perf_counter()
            assert job is not None
            queue.complete_job(job)
            if turn:  # the first one reads what the others find in memory
                took[name].append(1000 * (end - begin))
    return {name: statistics.median(each) for name, each in took.items()}
