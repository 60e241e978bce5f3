"""How fast is the queue, beside Huey on SQLite with fsync? Prints one table.

    python benchmarks/queue.py [--seconds 3] [--no-peers]

Everything goes through `JobQueueManager` with no-op work and history on, durable (an fsync before the answer).
Huey is installed into a virtual environment of its own that is thrown away; without a network it is left out.

Limits: one machine, its disk and its load decide the absolute figures, so compare columns of one run only. Huey
keeps no order within a key, and a task is lost when its worker is killed; the price of both is not in its column.
"""

# ruff: noqa: E402  # see the next comment

from __future__ import annotations

import sys

# This file is called as what it measures; the standard library's `queue` must not be looked for beside it.
sys.path[:] = [entry for entry in sys.path if not entry.endswith("benchmarks")]

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Figures = dict[str, str]
LATENCY_SAMPLES = 300
DRAIN_JOBS = 4000
CLAIMS = 200
TYPE = "dataset_conversion"


# -- the queue -----------------------------------------------------------------------------------


def opened(path: Path) -> tuple[Any, Any]:
    from scientistcloud import JobQueueManager, open_store

    store = open_store(f"sqlite:///{path}")
    return store, JobQueueManager(store)


def a_job(**more: Any) -> dict[str, Any]:
    return {"dataset_uuid": str(uuid.uuid4()), "job_type": TYPE, "parameters": {"input_path": "a"}} | more


def measure_ours(folder: Path, *, seconds: float) -> Figures:
    figures: Figures = {}
    store, queue = opened(folder / "enqueue.db")
    for threads in (1, 8):
        rate = rate_of(lambda: queue.create_job(**a_job()), threads=threads, seconds=seconds)
        figures[f"enqueue/s, {threads} thread{'s' if threads > 1 else ''}"] = f"{rate:,.0f}"
    store.close()

    store, queue = opened(folder / "many.db")
    begin = time.perf_counter()
    for _ in range(20):
        queue.create_jobs([a_job() for _ in range(100)])
    figures["enqueue/s, in hundreds"] = f"{2000 / (time.perf_counter() - begin):,.0f}"
    store.close()

    path = folder / "drain.db"
    store, queue = opened(path)
    queue.create_jobs([a_job() for _ in range(DRAIN_JOBS)])
    figures["drain/s, 2 worker processes"] = drained(sys.executable, "ours", path)
    store.close()

    figures |= pick_up(sys.executable, "ours", folder / "latency.db", lambda path: _creator(path))
    figures["idle, % of a core"] = f"{100 * float(said(sys.executable, 'ours', 'idle', folder / 'idle.db')):.3f}"
    figures |= claims(folder)
    return figures


@contextmanager
def _creator(path: Path) -> Iterator[Callable[[], object]]:
    store, queue = opened(path)
    yield lambda: queue.create_job(**a_job(parameters={"t0": time.monotonic()}))
    store.close()


def claims(folder: Path) -> Figures:
    """How long a claim takes beside few and many that wait."""
    figures: Figures = {}
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    one = str(uuid.uuid4())
    shapes: dict[str, Callable[[], dict[str, Any]]] = {
        "each its data set": a_job,
        "all one data set": lambda: a_job(dataset_uuid=one),
        "due tomorrow": lambda: a_job(run_at=tomorrow),
    }
    for shape, make in shapes.items():
        for pending in (1_000, 100_000):
            path = folder / f"{shape} {pending}.db"
            store, queue = opened(path)
            for _ in range(pending // 1000):
                queue.create_jobs([make() for _ in range(1000)])
            if shape == "due tomorrow":
                queue.create_jobs([a_job() for _ in range(CLAIMS)])
            took = []
            for _ in range(CLAIMS):
                begin = time.perf_counter()
                job = queue.get_next_job("w")
                took.append(time.perf_counter() - begin)
                queue.complete_job(job)
            figures[f"claim p50, ms, {pending:,} pending, {shape}"] = f"{1000 * statistics.median(took):.2f}"
            if shape == "each its data set" and pending == 100_000:
                figures["bytes a pending job"] = f"{path.stat().st_size / pending:,.0f}"
            store.close()
            path.unlink()
    return figures


def ours(what: str, path: Path, argument: str) -> None:
    """A worker, in a process of its own."""
    _, queue = opened(path)
    match what:
        case "drain":
            wait_for(argument)
            begin, done, job = time.monotonic(), 0, queue.get_next_job(f"w{os.getpid()}")
            while job is not None:
                job = queue.complete_job(job, claim_next=True)
                done += 1
            print(json.dumps([begin, time.monotonic(), done]))
        case "pick up":
            for _ in range(LATENCY_SAMPLES):
                job = queue.get_next_job("w", wait_seconds=60)
                print(time.monotonic() - job.parameters["t0"], flush=True)
                queue.complete_job(job)
        case "idle":
            begin, worked = time.monotonic(), time.process_time()
            queue.get_next_job("w", wait_seconds=5)
            print((time.process_time() - worked) / (time.monotonic() - begin))


# -- Huey ----------------------------------------------------------------------------------------


def measure_huey(python: str, folder: Path, *, seconds: float) -> Figures:
    figures: Figures = {}
    for threads in (1, 8):
        rate = float(said(python, "huey", f"enqueue {threads}", folder / f"huey{threads}.db", str(seconds)))
        figures[f"enqueue/s, {threads} thread{'s' if threads > 1 else ''}"] = f"{rate:,.0f}"
    path = folder / "huey drain.db"
    said(python, "huey", "fill", path)
    figures["drain/s, 2 worker processes"] = drained(python, "huey", path)

    @contextmanager
    def creator(path: Path) -> Iterator[Callable[[], object]]:
        process = subprocess.Popen(
            [python, __file__, "--peer", "huey", "create", str(path), ""],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        write, flush = process.stdin.write, process.stdin.flush
        yield lambda: (write("\n"), flush())
        process.communicate()

    figures |= pick_up(python, "huey", folder / "huey latency.db", creator)
    figures["idle, % of a core"] = f"{100 * float(said(python, 'huey', 'idle', folder / 'huey idle.db')):.3f}"
    return figures


def huey(what: str, path: Path, argument: str) -> None:
    """The peer, in the process of its own environment."""
    from huey import SqliteHuey  # type: ignore[import-not-found]  # only there

    queue = SqliteHuey(filename=str(path), fsync=True)

    @queue.task()  # type: ignore[untyped-decorator]
    def work(t0: float | None = None) -> None:
        if t0 is not None:
            print(time.monotonic() - t0, flush=True)

    match what.split():
        case ["enqueue", threads]:
            print(rate_of(work, threads=int(threads), seconds=float(argument)))
        case ["fill"]:
            for _ in range(DRAIN_JOBS):
                work()
            print("filled")
        case ["drain"]:
            wait_for(argument)
            begin, done = time.monotonic(), 0
            while (task := queue.dequeue()) is not None:
                queue.execute(task)
                done += 1
            print(json.dumps([begin, time.monotonic(), done]))
        case ["create"]:
            for _ in sys.stdin:
                work(time.monotonic())
        case ["pick", "up"]:
            queue.create_consumer(workers=1, periodic=False).start()
            time.sleep(600)
        case ["idle"]:
            queue.create_consumer(workers=1, periodic=False).start()
            begin, worked = time.monotonic(), time.process_time()
            time.sleep(5)
            print((time.process_time() - worked) / (time.monotonic() - begin), flush=True)
            os._exit(0)


@contextmanager
def environment_with(package: str) -> Iterator[str | None]:
    """The python of a virtual environment with `package`; None where it cannot be had."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            venv.create(folder, with_pip=True)
            python = f"{folder}/bin/python"
            subprocess.run(
                [python, "-m", "pip", "install", "--quiet", package], check=True, timeout=120, capture_output=True
            )
        except (subprocess.SubprocessError, OSError):
            yield None
        else:
            yield python


# -- measuring -----------------------------------------------------------------------------------


def rate_of(call: Callable[[], object], *, threads: int, seconds: float) -> float:
    """Calls a second, from so many threads together."""
    until = time.perf_counter() + seconds
    counts: list[int] = []

    def on_and_on() -> None:
        done = 0
        while time.perf_counter() < until:
            call()
            done += 1
        counts.append(done)

    begin = time.perf_counter()
    each = [threading.Thread(target=on_and_on) for _ in range(threads)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
    return sum(counts) / (time.perf_counter() - begin)


def started(python: str, peer: str, what: str, path: Path, argument: str = "") -> subprocess.Popen[str]:
    command = [python, __file__, "--peer", peer, what, str(path), argument]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(python: str, peer: str, what: str, path: Path, argument: str = "") -> str:
    out, _ = started(python, peer, what, path, argument).communicate(timeout=300)
    return out.strip()


def wait_for(moment: str) -> None:
    time.sleep(max(0.0, float(moment) - time.monotonic()))


def drained(python: str, peer: str, path: Path) -> str:
    moment = str(time.monotonic() + 1.5)  # both are up by then
    workers = [started(python, peer, "drain", path, moment) for _ in range(2)]
    runs = [json.loads(worker.communicate(timeout=300)[0]) for worker in workers]
    took = max(end for _, end, _ in runs) - min(begin for begin, _, _ in runs)
    return f"{sum(done for _, _, done in runs) / took:,.0f}"


def pick_up(python: str, peer: str, path: Path, creator: Any) -> Figures:
    """From the call that creates to the claim in the hands of an idle worker."""
    with creator(path) as create:
        worker = started(python, peer, "pick up", path)
        time.sleep(1.5)
        took = []
        assert worker.stdout is not None
        for _ in range(LATENCY_SAMPLES):
            time.sleep(0.01)  # it is asleep again
            create()
            took.append(1000 * float(worker.stdout.readline()))
        worker.kill()
        worker.communicate()
    took.sort()
    return {
        "pick-up p50, ms": f"{statistics.median(took):.2f}",
        "pick-up p99, ms": f"{took[int(0.99 * len(took))]:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="how long each rate is measured")
    parser.add_argument("--no-peers", action="store_true", help="leave Huey out")
    parser.add_argument("--peer", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peer:
        peer, what, path, argument = asked.peer
        {"ours": ours, "huey": huey}[peer](what, Path(path), argument)
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        columns = {"ScientistCloud": measure_ours(Path(folder), seconds=asked.seconds)}
        if not asked.no_peers:
            with environment_with("huey") as python:
                if python is None:
                    print("Huey is left out: it could not be installed (no network?)", file=sys.stderr)
                else:
                    columns["Huey, fsync"] = measure_huey(python, Path(folder), seconds=asked.seconds)
    print_table(columns)


def print_table(columns: dict[str, Figures]) -> None:
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    print(f"| | {' | '.join(columns)} |")
    print(f"| --- |{' ---: |' * len(columns)}")
    for name in names:
        print(f"| {name} | {' | '.join(figures.get(name, '') for figures in columns.values())} |")


if __name__ == "__main__":
    main()
