"""The figures of the queue by name: what workers count, and what they all mean to Prometheus. Pure.

Workers and portal are different processes, so what workers count reaches ``/metrics`` through the database
(`ports.CounterStore`): each adds what it has counted since it did so last. What the jobs themselves tell, `gauges`
computes from the queue's statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from scientistcloud.jobs.handling import unhandled
from scientistcloud.records import Count, QueueStats, Worker


@dataclass(frozen=True, slots=True)
class Figure:
    """One family of figures."""

    name: str
    #: `counter`, `gauge` or `histogram`.
    kind: str
    #: What it counts or measures, for people.
    meaning: str
    #: Upper bounds of a histogram's buckets, ascending; the last, infinite one goes without saying.
    buckets: tuple[float, ...] = field(default=(), kw_only=True)


CLAIMS = Figure("scientistcloud_claims_total", "counter", "Jobs that workers claimed")
ATTEMPTS = Figure("scientistcloud_attempts_total", "counter", "Attempts that ended, by outcome")
LEASE_LOSSES = Figure(
    "scientistcloud_lease_losses_total",
    "counter",
    "Jobs that were taken back from workers which died, fell silent or were cut off",
)
OUTAGES = Figure("scientistcloud_database_outages_total", "counter", "Claims that the database did not answer")
ATTEMPT_SECONDS = Figure(
    "scientistcloud_attempt_seconds",
    "histogram",
    "How long attempts took",
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 43200),
)
WAIT_SECONDS = Figure(
    "scientistcloud_wait_seconds",
    "histogram",
    "From when a job was due to its first claim, its turn in the line included",
    buckets=(0.005, 0.05, 0.5, 5, 60, 600, 3600, 43200),
)
WAKE_UP_SECONDS = Figure(
    "scientistcloud_wake_up_seconds",
    "histogram",
    "From a job's creation to its claim by a worker that was waiting for one",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
COUNTED = (CLAIMS, ATTEMPTS, LEASE_LOSSES, OUTAGES, ATTEMPT_SECONDS, WAIT_SECONDS, WAKE_UP_SECONDS)
"""What workers count."""

JOBS = Figure("scientistcloud_jobs", "gauge", "Jobs by status")
PENDING = Figure("scientistcloud_jobs_pending", "gauge", "Pending jobs by type and what they wait for")
RUNNING = Figure("scientistcloud_jobs_running", "gauge", "Running jobs by type")
FAILED = Figure("scientistcloud_jobs_failed", "gauge", "Jobs that failed for good, by type and error")
OLDEST = Figure(
    "scientistcloud_oldest_claimable_seconds", "gauge", "Age of the job of this type that could be claimed longest"
)
PAUSED = Figure("scientistcloud_type_paused", "gauge", "1 where an operator has paused the job type")
UNHANDLED = Figure(
    "scientistcloud_type_unhandled", "gauge", "1 where jobs of the type wait and no living worker can do them"
)
WORKERS = Figure("scientistcloud_workers", "gauge", "Workers that were seen lately")
SLOTS = Figure("scientistcloud_worker_slots", "gauge", "Jobs that the worker can run at once")


def one(figure: Figure, value: float = 1, **labels: str) -> list[Count]:
    """What a counter grows by."""
    return [Count(name=figure.name, labels=_sorted(labels), value=value)]


def observed(figure: Figure, value: float, **labels: str) -> list[Count]:
    """What a histogram grows by with one observation: its buckets, sum and number."""
    bounds = [f"{bound:g}" for bound in figure.buckets if value <= bound] + ["+Inf"]
    return [
        *(Count(name=f"{figure.name}_bucket", labels=_sorted(labels | {"le": bound}), value=1) for bound in bounds),
        Count(name=f"{figure.name}_sum", labels=_sorted(labels), value=value),
        Count(name=f"{figure.name}_count", labels=_sorted(labels), value=1),
    ]


def summed(counts: Iterable[Count]) -> list[Count]:
    """`counts` with those of one name and labels added up."""
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for count in counts:
        key = count.name, count.labels
        sums[key] = sums.get(key, 0.0) + count.value
    return [Count(name=name, labels=labels, value=value) for (name, labels), value in sums.items()]


def gauges(stats: QueueStats, alive: Sequence[Worker]) -> Iterator[tuple[Figure, list[Count]]]:
    """What the queue and its living workers are at this moment."""
    types = stats.types.items()
    missing = unhandled(stats, alive)
    yield JOBS, _each(JOBS, ((number, {"status": status}) for status, number in stats.by_status.items()))
    yield (
        PENDING,
        _each(
            PENDING,
            (
                (number, {"job_type": name, "waits_for": reason})
                for name, figures in types
                for reason, number in figures.waiting.items()
            ),
        ),
    )
    yield RUNNING, _each(RUNNING, ((figures.running, {"job_type": name}) for name, figures in types))
    yield (
        FAILED,
        _each(
            FAILED,
            (
                (number, {"job_type": name, "error": error})
                for name, figures in types
                for error, number in figures.failed.items()
            ),
        ),
    )
    yield (
        OLDEST,
        _each(OLDEST, ((figures.oldest_claimable_seconds or 0.0, {"job_type": name}) for name, figures in types)),
    )
    yield PAUSED, _each(PAUSED, ((float(figures.paused), {"job_type": name}) for name, figures in types))
    yield UNHANDLED, _each(UNHANDLED, ((float(name in missing), {"job_type": name}) for name, _ in types))
    yield WORKERS, _each(WORKERS, [(float(len(alive)), {})])
    yield SLOTS, _each(SLOTS, ((worker.slots, {"worker_id": worker.worker_id}) for worker in alive))


def _each(figure: Figure, values: Iterable[tuple[float, dict[str, str]]]) -> list[Count]:
    return [Count(name=figure.name, labels=_sorted(labels), value=value) for value, labels in values]


def _sorted(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))
