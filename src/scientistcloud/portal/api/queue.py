"""The queue as its operator sees it: types, what waits, who works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from scientistcloud.jobs.handling import known_types, living, unhandled
from scientistcloud.jobs.steering import steer_type
from scientistcloud.portal.dependencies import Operator, TheStats, TheStore
from scientistcloud.portal.recent import RecentStats
from scientistcloud.ports import Store
from scientistcloud.records import JobStatus, QueueStats, TypeStats, Worker

router = APIRouter(tags=["queue"])

_MOST_RUNNING = 1000


class TypeRow(BaseModel):
    """One job type."""

    job_type: str
    paused: bool
    #: Pending jobs by what they wait for.
    waiting: dict[str, int]
    running: int
    #: Failed jobs by the type of their error.
    failed: dict[str, int]
    oldest_claimable_seconds: float | None
    #: What is missing where jobs wait that nobody can do.
    missing: str | None


class WorkerRow(BaseModel):
    """One worker."""

    worker_id: str
    host: str
    slots: int
    running: int
    job_types: list[str]
    sensors: list[str]
    version: str
    started_at: datetime
    last_seen: datetime
    #: Seen lately.
    alive: bool


class Overview(BaseModel):
    """All of it."""

    by_status: dict[str, int]
    types: list[TypeRow]
    workers: list[WorkerRow]


@router.get("/api/queue")
def queue(_operator: Operator, store: TheStore, stats: TheStats) -> Overview:
    """What waits, runs and failed by job type, and who works. Operators alone."""
    return overview(store, stats)


@router.post("/api/queue/types/{job_type}/pause")
def pause_type(job_type: str, _operator: Operator, store: TheStore, stats: TheStats) -> Overview:
    """Hand out no job of the type, to any worker, until it is resumed. Operators alone."""
    steer_type(store, job_type, paused=True)
    return overview(store, stats)


@router.post("/api/queue/types/{job_type}/resume")
def resume_type(job_type: str, _operator: Operator, store: TheStore, stats: TheStats) -> Overview:
    """Hand out jobs of the type again. Operators alone."""
    steer_type(store, job_type, paused=False)
    return overview(store, stats)


def overview(store: Store, recent: RecentStats) -> Overview:
    """The queue at this moment; of a large one the figures of a moment ago."""
    stats = recent.get()
    workers = store.workers.all()
    alive = living(workers, now=store.clock.now())
    running = Counter(job.worker_id for job in store.jobs.find(status=JobStatus.RUNNING, limit=_MOST_RUNNING))
    return Overview(
        by_status=dict(stats.by_status),
        types=_types(stats, alive, paused=store.jobs.paused()),
        workers=[
            WorkerRow(
                worker_id=worker.worker_id,
                host=worker.host,
                slots=worker.slots,
                running=running[worker.worker_id],
                job_types=list(worker.job_types),
                sensors=list(worker.sensors),
                version=worker.version,
                started_at=worker.started_at,
                last_seen=worker.last_seen,
                alive=worker in alive,
            )
            for worker in workers
        ],
    )


def _types(stats: QueueStats, workers: list[Worker], *, paused: Sequence[str]) -> list[TypeRow]:
    missing = unhandled(stats, workers)
    nothing = TypeStats()
    return [
        TypeRow(
            job_type=name,
            paused=name in paused,
            waiting=dict(figures.waiting),
            running=figures.running,
            failed=dict(figures.failed),
            oldest_claimable_seconds=figures.oldest_claimable_seconds,
            missing=missing.get(name),
        )
        for name in sorted(known_types(stats, workers))
        for figures in [stats.types.get(name, nothing)]
    ]
