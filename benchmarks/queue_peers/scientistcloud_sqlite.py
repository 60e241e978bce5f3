"""ScientistCloud on SQLite, through `JobQueueManager`."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from functools import cache
from typing import Any

from protocol import Create, main, report

from scientistcloud import JobQueueManager, open_store

TYPE = "dataset_conversion"


@cache
def opened(where: str) -> JobQueueManager:
    return JobQueueManager(open_store(f"sqlite:///{where}"))


def a_job(began: float = 0.0, **more: Any) -> dict[str, Any]:
    """A job on a data set of its own, unless said otherwise."""
    return {"dataset_uuid": str(uuid.uuid4()), "job_type": TYPE, "parameters": {"began": began}} | more


def creator(where: str) -> Create:
    queue = opened(where)
    return lambda began: queue.create_job(**a_job(began))


def creator_of_many(where: str) -> Callable[[int], object]:
    queue = opened(where)
    return lambda number: queue.create_jobs([a_job() for _ in range(number)])


def work(where: str) -> None:
    queue, name = opened(where), f"worker {os.getpid()}"
    while True:
        job = queue.get_next_job(name, wait_seconds=60)
        while job is not None:
            report(job.parameters["began"])
            job = queue.complete_job(job, claim_next=True)


def work_in_batches(where: str, batch: int) -> None:
    queue, name = opened(where), f"worker {os.getpid()}"
    while True:
        jobs = queue.get_next_jobs(name, batch, wait_seconds=60)
        while jobs:
            for job in jobs:
                report(job.parameters["began"])
            jobs = queue.complete_jobs(jobs, claim_next=True)


if __name__ == "__main__":
    main(
        "scientistcloud",
        creator=creator,
        creator_of_many=creator_of_many,
        work=work,
        work_in_batches=work_in_batches,
    )
