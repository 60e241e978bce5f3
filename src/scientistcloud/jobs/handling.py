"""Who can do which job: pure. A job that nobody can do waits, and says what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from scientistcloud.jobs.lifecycle import CANARY
from scientistcloud.records import QueueStats, Worker

UNSEEN_LEASES = 3
"""A worker that has not been seen for so many leases counts as gone."""


def living(workers: Iterable[Worker], *, now: datetime, lease_seconds: float) -> list[Worker]:
    """Those of `workers` that were seen lately. They announce themselves every third of a lease, or 10 s."""
    longest = max(UNSEEN_LEASES * lease_seconds, 30.0)
    return [worker for worker in workers if (now - worker.last_seen).total_seconds() <= longest]


def missing(job_type: str, workers: Iterable[Worker]) -> str | None:
    """Why no job of `job_type` can run with the living `workers`, and what to do; None where one can."""
    workers = list(workers)
    if not workers:
        return "no worker runs; start one with `scientistcloud worker`"
    if any(job_type in worker.job_types for worker in workers):
        return None
    known = sorted({each for worker in workers for each in worker.job_types})
    return (
        f"no worker handles {job_type} (they handle {', '.join(known) or 'nothing'}); start one where the package "
        "that offers it is installed"
    )


def unhandled(stats: QueueStats, workers: Iterable[Worker]) -> Mapping[str, str]:
    """The types that have pending jobs which nobody can do, and what is missing for each."""
    workers = list(workers)
    return {
        job_type: why
        for job_type, figures in stats.types.items()
        if figures.pending and job_type != CANARY and (why := missing(job_type, workers)) is not None
    }
