"""The queue's figures, counted along its indexes."""

from __future__ import annotations

from datetime import datetime
from operator import itemgetter

from scientistcloud.database.mongo.collection import Server
from scientistcloud.jobs.handling import queue_stats
from scientistcloud.jobs.lifecycle import PRIORITY_STEP_SECONDS
from scientistcloud.records import JobStatus, QueueStats, TypeStats, WaitsFor


def stats_of(server: Server, now: datetime) -> QueueStats:
    """What `ports.JobStore.stats` says; its parts are of moments close to each other."""
    ended = server.jobs.sums({"finished_at": {"$exists": True}}, by="status", of=None)
    running = server.jobs.sums({"status": JobStatus.RUNNING.value}, by="job_type", of=None)
    types = {
        each["_id"]: _of_type(
            server, each["_id"], paused=bool(each.get("paused")), running=running.get(each["_id"], 0), now=now
        )
        for each in sorted(server.types.find({}), key=itemgetter("_id"))
    }
    return queue_stats(ended, types)


def _of_type(server: Server, job_type: str, *, paused: bool, running: int, now: datetime) -> TypeStats:
    failed = server.jobs.sums({"status": JobStatus.FAILED.value, "job_type": job_type}, by="error.type", of=None)
    return TypeStats(
        paused=paused,
        waiting={
            str(reason): server.jobs.count({"waits_for": reason.value, "job_type": job_type}) for reason in WaitsFor
        },
        running=running,
        failed={error or "": number for error, number in failed.items()},
        oldest_claimable_seconds=_oldest_claimable_seconds(server, job_type, now),
    )


def _oldest_claimable_seconds(server: Server, job_type: str, now: datetime) -> float | None:
    since = []
    for priority in (1, 2, 3):
        first = server.jobs.find_one(
            {"waits_for": WaitsFor.NOTHING.value, "job_type": job_type, "priority": priority},
            fields=("rank",),
            sort=[("rank", 1)],
        )
        if first is not None:
            since.append(first["rank"] - PRIORITY_STEP_SECONDS * (priority - 1))
    return max(0.0, now.timestamp() - min(since)) if since else None
