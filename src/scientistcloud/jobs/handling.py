"""Who can do which job: pure. A job that nobody can do waits, and says what is missing."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from scientistcloud.jobs.lifecycle import CANARY
from scientistcloud.records import Job, JobStatus, QueueStats, TypeStats, WaitsFor, Worker

UNSEEN_SECONDS = 60.0
"""A worker that has not been seen for so long counts as gone; they announce themselves every 10 s or sooner."""


def living(workers: Iterable[Worker], *, now: datetime) -> list[Worker]:
    """Those of `workers` that were seen lately."""
    return [worker for worker in workers if (now - worker.last_seen).total_seconds() <= UNSEEN_SECONDS]


class Obstacle(StrEnum):
    """What keeps a job from being done beside its place in the line."""

    PAUSED = "paused"
    """Its type is paused."""
    NO_WORKER = "no worker"
    """No worker runs."""
    NOT_HANDLED = "not handled"
    """No worker that runs can do its type."""


def obstacle(job_type: str, *, paused: Container[str], workers: Iterable[Worker]) -> Obstacle | None:
    """What keeps jobs of `job_type` from being done by the living `workers`; None where nothing does."""
    workers = list(workers)
    if job_type in paused:
        return Obstacle.PAUSED
    if not workers:
        return Obstacle.NO_WORKER
    return None if any(job_type in worker.job_types for worker in workers) else Obstacle.NOT_HANDLED


def explained(what: Obstacle, job_type: str, workers: Iterable[Worker]) -> str:
    """The obstacle in words, and what an operator does about it."""
    match what:
        case Obstacle.PAUSED:
            return f"{job_type} is paused; `scientistcloud jobs resume {job_type}` lets it go on"
        case Obstacle.NO_WORKER:
            return "no worker runs; start one with `scientistcloud worker`"
        case Obstacle.NOT_HANDLED:
            known = sorted({each for worker in workers for each in worker.job_types})
            return (
                f"no worker handles {job_type} (they handle {', '.join(known) or 'nothing'}); start one where the "
                "package that offers it is installed"
            )
        case _:
            assert_never(what)


def why_it_waits(job: Job, *, head: Job | None, paused: Container[str], workers: Iterable[Worker]) -> str | None:
    """What a job waits for, in words; None where nothing is in its way. `head`: that of its line, or None."""
    match job.waits_for:
        case None:
            return None
        case WaitsFor.TIME:
            after = f", after {job.error.type}" if job.error else ""
            return f"its time comes at {job.run_at:%F %T} UTC{after}"
        case WaitsFor.TURN:
            if head is None:
                return "its line has no head; care of a worker gives it one within seconds"
            first = f"job {head.job_id} of its data set comes first"
            if head.status is JobStatus.RUNNING:
                return f"{first}, which runs on {head.worker_id}"
            behind = why_it_waits(head, head=head, paused=paused, workers=workers)
            return first if behind is None else f"{first}, which waits: {behind}"
        case WaitsFor.NOTHING:
            what = obstacle(job.job_type, paused=paused, workers=workers)
            return None if what is None else explained(what, job.job_type, workers)
        case _:
            assert_never(job.waits_for)


def queue_stats(ended: Mapping[str, int], types: Mapping[str, TypeStats]) -> QueueStats:
    """The figures as operators see them, of how many jobs ended with each status and of those of each type.

    The type of ``scientistcloud verify`` is among them only where it left a job behind.
    """
    by_status = {**dict.fromkeys(map(str, JobStatus), 0), **ended}
    by_status[str(JobStatus.RUNNING)] = sum(each.running for each in types.values())
    by_status[str(JobStatus.PENDING)] = sum(each.pending for each in types.values())
    canary = types.get(CANARY, TypeStats())
    left_behind = canary.pending or canary.running or canary.failed
    return QueueStats(
        by_status=by_status,
        types={job_type: each for job_type, each in types.items() if job_type != CANARY or left_behind},
    )


def known_types(stats: QueueStats, workers: Iterable[Worker]) -> set[str]:
    """The types that jobs were created of, and those that `workers` could do."""
    return {*stats.types, *(name for worker in workers for name in worker.job_types)}


def unhandled(stats: QueueStats, workers: Iterable[Worker]) -> Mapping[str, str]:
    """The types that have pending jobs which nobody can do, and what is missing for each."""
    workers = list(workers)
    return {
        job_type: explained(what, job_type, workers)
        for job_type, figures in stats.types.items()
        if figures.pending
        and job_type != CANARY
        and (what := obstacle(job_type, paused=(), workers=workers)) is not None
    }
