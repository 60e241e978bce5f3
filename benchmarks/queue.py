"""How fast is the queue, beside the queues that others use? Prints a table in Markdown.

    python benchmarks/queue.py [--quick] [--only huey,rq] [--write]

Everything of ours goes through `JobQueueManager` with no-op work and history on. Where a peer can, its answers are
on the disk as well before they are given: Huey with fsync, PostgreSQL with its defaults, Redis with `appendfsync
always`. Each peer runs in an environment of its own, installed once into the user's cache folder; PostgreSQL and
Redis are Debian's, started here in a temporary folder. A peer that cannot be had is left out, and the table says
why. The rates are measured in rounds, every queue once a round, and their medians shown: the columns of one run
may be compared, two runs may not.

What it cannot show: a network between workers and server, another disk, more than the few cores of one machine,
which queue, workers and server share here.
"""

# ruff: noqa: E402  # see the next comment

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# This file is called as what it measures; the standard library's `queue` must not be looked for beside it.
sys.path[:] = [str(HERE / "queue_peers"), *(each for each in sys.path if Path(each or ".").resolve() != HERE)]

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import claims
import measuring
from environments import python_with
from measuring import Figures, Program
from servers import Files, Missing, Place, PostgreSQL, Redis

RESULTS = HERE / "RESULTS.md"
SECTION = "## `benchmarks/queue.py`"
NAMES: dict[str, tuple[str, str]] = {  # of a figure: in the table, and its format
    "enqueue 1": ("enqueue/s, one thread", ",.0f"),
    "enqueue 8": ("enqueue/s, eight threads", ",.0f"),
    "enqueue many": ("enqueue/s, in hundreds", ",.0f"),
    "drain 1": ("drain/s, two workers, singly", ",.0f"),
    "drain 10": ("drain/s, two workers, in tens", ",.0f"),
    "pick-up p50": ("pick-up by an idle worker, p50, ms", ".2f"),
    "pick-up p99": ("p99, ms", ".2f"),
    "pick-up worst": ("worst, ms", ".2f"),
    "idle": ("an idle worker, % of a core", ".3f"),
    "idle server": ("its server, % of a core", ".3f"),
    "bytes": ("bytes a pending job", ",.0f"),
    "claim blocked 1000": ("claim beside 1,000 blocked jobs, p50, ms", ".2f"),
    "claim blocked 10000": ("claim beside 10,000 blocked jobs, p50, ms", ".2f"),
}


@dataclass(kw_only=True)
class Queue:
    """One column."""

    name: str
    program: str
    requirements: tuple[str, ...] = ()
    place: str
    #: Enough for a second of work, at its pace.
    drain_jobs: int
    batches: bool = False
    #: What it does not promise.
    lacks: str
    running: Program | None = None
    version: str = ""
    #: By the name of the figure, one a round.
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def note(self, figures: Figures) -> None:
        for name, value in figures.items():
            self.rounds.setdefault(name, []).append(value)

    def figure(self, name: str) -> float | None:
        values = self.rounds.get(name)
        return None if values is None else statistics.median(values)


QUEUES = (
    Queue(
        name="ScientistCloud",
        program="scientistcloud_sqlite.py",
        place="files",
        drain_jobs=6000,
        batches=True,
        lacks="workers on several machines, for which it takes a database server",
    ),
    Queue(
        name="Huey",
        program="huey_sqlite.py",
        requirements=("huey",),
        place="files",
        drain_jobs=5000,
        lacks="a task is lost when its worker is killed; no order within a key, no fencing, no history",
    ),
    Queue(
        name="PGQueuer",
        program="pgqueuer_postgresql.py",
        requirements=("pgqueuer", "asyncpg", "psycopg[binary]"),
        place="PostgreSQL",
        drain_jobs=6000,
        batches=True,
        lacks="acknowledgements are buffered, so a killed worker's are run again; no fencing",
    ),
    Queue(
        name="Procrastinate",
        program="procrastinate_postgresql.py",
        requirements=("procrastinate",),
        place="PostgreSQL",
        drain_jobs=1000,
        lacks="no lease: a stalled job waits for somebody who retries it; no fencing; a fetch slows down with "
        "what a lock holds back",
    ),
    Queue(
        name="Dramatiq",
        program="dramatiq_redis.py",
        requirements=("dramatiq[redis]",),
        place="Redis",
        drain_jobs=4000,
        lacks="no order within a key, no fencing, no history",
    ),
    Queue(
        name="RQ",
        program="rq_redis.py",
        requirements=("rq",),
        place="Redis",
        drain_jobs=300,
        lacks="no order within a key, no fencing (its worker forks for each job)",
    ),
    Queue(
        name="Celery",
        program="celery_redis.py",
        requirements=("celery[redis]",),
        place="Redis",
        drain_jobs=1500,
        lacks="a job of a killed worker is given out again after an hour; no order within a key, no fencing",
    ),
)
OURS, HUEY, PGQUEUER, PROCRASTINATE = QUEUES[:4]


# -- running -------------------------------------------------------------------------------------


def prepare(queues: list[Queue], folder: Path, stack: ExitStack) -> dict[str, str]:
    """Start what there is; why the others are left out."""
    places: dict[str, Place | Missing] = {"files": Files(folder)}
    missing: dict[str, str] = {}
    for queue in queues:
        if queue.place not in places:
            try:
                started = {"PostgreSQL": PostgreSQL, "Redis": Redis}[queue.place](folder / queue.place)
            except (Missing, subprocess.SubprocessError, OSError) as failed:
                places[queue.place] = failed if isinstance(failed, Missing) else Missing(str(failed))
            else:
                stack.callback(started.stop)
                places[queue.place] = started
        place = places[queue.place]
        try:
            if isinstance(place, Missing):
                raise place
            python = python_with(queue.name.lower(), queue.requirements) if queue.requirements else sys.executable
            queue.running = Program(python, queue.program, place)
            queue.version = queue.running.say("version")
        except (Missing, subprocess.SubprocessError) as failed:
            queue.running = None
            missing[queue.name] = str(failed)
    return missing


def measure(queues: list[Queue], folder: Path, *, rounds: int, seconds: float, samples: int) -> dict[str, str]:
    """Every figure of every queue, in turn; what broke."""
    broke: dict[str, str] = {}

    def attempt(queue: Queue, what: str, call: Callable[[Program], Figures]) -> None:
        if queue.running is None or queue.name in broke:
            return
        print(f"{what}, {queue.name} ...", file=sys.stderr)
        try:
            queue.note(call(queue.running))
        except (subprocess.SubprocessError, OSError, TimeoutError, ValueError) as failed:
            broke[queue.name] = f"{what}: {failed}"

    for number in range(1, rounds + 1):
        for queue in queues:
            jobs = queue.drain_jobs if rounds > 1 else queue.drain_jobs // 3
            attempt(queue, f"round {number}, enqueue", partial(measuring.enqueue, seconds=seconds))
            attempt(queue, f"round {number}, drain", partial(measuring.drain, jobs=jobs, batch=1))
            if queue.batches:
                attempt(queue, f"round {number}, drain in tens", partial(measuring.drain, jobs=2 * jobs, batch=10))
    for queue in queues:
        attempt(queue, "pick-up", partial(measuring.pick_up, samples=samples, folder=folder))
    if PROCRASTINATE in queues:
        attempt(PROCRASTINATE, "beside blocked jobs", claims.procrastinate)
    return broke


# -- telling -------------------------------------------------------------------------------------


def machine() -> str:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory_gib:.0f} GiB, Python {platform.python_version()}"


def table(queues: list[Queue]) -> list[str]:
    there = [queue for queue in queues if queue.running is not None]
    names = [
        queue.name
        + " "
        + queue.version
        + (f", {queue.running.place.name}" if queue.running.place.name else ", SQLite")
        for queue in there
        if queue.running is not None
    ]
    lines = [f"| | {' | '.join(names)} |", f"| --- |{' ---: |' * len(there)}"]
    for name, (label, form) in NAMES.items():
        values = [queue.figure(name) for queue in there]
        shown = ["" if value is None else format(value, form) for value in values]
        lines.append(f"| {label} | {' | '.join(shown)} |")
    return [*lines, f"| does not promise | {' | '.join(queue.lacks for queue in there)} |"]


def claim_table(figures: Figures, sizes: tuple[int, ...]) -> list[str]:
    shapes = list(dict.fromkeys(name.split(" ", 2)[2] for name in figures))
    lines = [
        f"| a claim, p50, ms | {' | '.join(f'{size:,} pending' for size in sizes)} |",
        f"| --- |{' ---: |' * len(sizes)}",
    ]
    for shape in shapes:
        values = [figures[f"claim {size} {shape}"] for size in sizes]
        lines.append(f"| {shape} | {' | '.join(format(value, '.3f') for value in values)} |")
    return lines


def ratio(above: Queue, below: Queue, name: str) -> float | None:
    """The median of the rounds' ratios: both met the same machine in each."""
    pairs = list(zip(above.rounds.get(name, []), below.rounds.get(name, []), strict=False))
    return statistics.median(one / other for one, other in pairs) if pairs else None


def aims(queues: list[Queue], claimed: Figures, sizes: tuple[int, ...]) -> list[str]:
    """Each aim with what was reached."""
    peers = [queue for queue in queues if queue is not OURS and queue.running is not None]

    def best(name: str) -> float | None:
        mine, theirs = OURS.figure(name), [value for peer in peers if (value := peer.figure(name)) is not None]
        return min(theirs) / mine if mine and theirs else None

    slowest = max(
        claimed[f"claim {sizes[-1]} {shape}"] / claimed[f"claim {sizes[0]} {shape}"]
        for shape in {name.split(" ", 2)[2] for name in claimed}
    )
    mine, theirs = OURS.figure("claim blocked 10000"), PROCRASTINATE.figure("claim blocked 10000")
    lines: list[tuple[str, float | None, str, float]] = [
        ("enqueue from one thread, times Huey", ratio(OURS, HUEY, "enqueue 1"), ">=", 1.0),
        ("enqueue from eight threads, times Huey", ratio(OURS, HUEY, "enqueue 8"), ">=", 2.0),
        ("drain singly, times Huey", ratio(OURS, HUEY, "drain 1"), ">=", 1.2),
        ("drain in tens, times PGQueuer", ratio(OURS, PGQUEUER, "drain 10"), ">=", 2.5),
        ("pick-up p50, the best peer's by ours", best("pick-up p50"), ">=", 2.0),
        ("pick-up p99, the best peer's by ours", best("pick-up p99"), ">=", 5.0),
        (f"claim at {sizes[-1]:,} pending by that at {sizes[0]:,}, worst shape", slowest, "<=", 1.3),
        (
            "claim beside 10,000 blocked, Procrastinate's by ours",
            theirs / mine if mine and theirs else None,
            ">=",
            20,
        ),
        ("an idle worker, % of a core", OURS.figure("idle"), "<=", 0.1),
    ]
    told = ["| aim | | reached | |", "| --- | ---: | ---: | --- |"]
    for what, value, sign, bound in lines:
        if value is None:
            told.append(f"| {what} | {sign} {bound:g} | not measured | |")
        else:
            met = value >= bound if sign == ">=" else value <= bound
            told.append(f"| {what} | {sign} {bound:g} | {value:.3g} | {'met' if met else 'missed'} |")
    return told


def write_down(text: str) -> None:
    """Replace what the section of this program in RESULTS.md says below its first paragraph."""
    before, _, rest = RESULTS.read_text().partition(SECTION)
    section, separator, after = rest.partition("\n## ")
    frame = section.partition("\n### ")[0].rstrip()
    RESULTS.write_text(f"{before}{SECTION}{frame}\n\n{text.rstrip()}\n{separator}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, fewer samples and jobs: about two minutes")
    parser.add_argument("--only", default="", help="peers, by a comma: huey,pgqueuer,…; none: `--only none`")
    parser.add_argument("--write", action="store_true", help=f"also write the tables into {RESULTS.name}")
    parser.add_argument("--rounds", type=int, help="how often each rate is measured")
    asked = parser.parse_args()
    wanted = {name for name in asked.only.lower().split(",") if name}
    queues = [queue for queue in QUEUES if queue is OURS or not wanted or queue.name.lower() in wanted]
    sizes = (1_000, 100_000) if asked.quick else (1_000, 100_000, 1_000_000)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user, who has to get through
        missing = prepare(queues, folder, stack)
        broke = measure(
            queues, folder, rounds=asked.rounds or (1 if asked.quick else 3), seconds=0.7 if asked.quick else 1.0,
            samples=100 if asked.quick else 1000,
        )  # fmt: skip
        OURS.note(claims.beside_blocked(folder))
        claimed = claims.ours(folder, sizes)
    told = [
        f"### Measured on {datetime.now(UTC):%Y-%m-%d}" + (", `--quick`" if asked.quick else ""),
        f"{machine()}; {time.monotonic() - began:.0f} s.",
        "\n".join(table(queues)),
        "\n".join(claim_table(claimed, sizes)),
        "\n".join(aims(queues, claimed, sizes)),
        *(f"{name} is left out: {why}." for name, why in missing.items()),
        *(f"{name} was not measured to the end: {why}." for name, why in broke.items()),
    ]
    text = "\n\n".join(told)
    print(text)
    if asked.write:
        write_down(text)


if __name__ == "__main__":
    main()
