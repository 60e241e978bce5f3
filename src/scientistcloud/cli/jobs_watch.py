"""``scientistcloud jobs watch``: what happens in the queue, as it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import click

from scientistcloud.cli.database import open_existing
from scientistcloud.errors import NotFound, Transient
from scientistcloud.ports import Store
from scientistcloud.records import Job, JobStatus, WaitsFor, json_of
from scientistcloud.settings import read_settings

_LOOK_SECONDS = 0.2
_MOST_RUNNING = 1000
# A change may be committed later than its time says.
_OVERLAP = timedelta(seconds=10)


@click.command(short_help="What happens, as it happens.")
@click.argument("job_id", required=False)
@click.option("--type", "job_type", help="Only jobs of this type.")
@click.option("--dataset", help="Only jobs of the data set with this UUID.")
@click.option("--json", "as_json", is_flag=True, help="Each change as a line of JSON.")
def watch(job_id: str | None, job_type: str | None, dataset: str | None, as_json: bool) -> int:
    """A line for each change of a job, beginning with what runs, until Ctrl-C.

    With JOB_ID until that job has ended: status 0 if it completed, else 1.
    """
    store = open_existing(read_settings())
    try:
        if job_id is not None and store.jobs.get(job_id) is None:
            raise NotFound(f"there is no job {job_id}; `scientistcloud jobs list` shows them")
        if job_id is None:
            click.echo("watching the queue; Ctrl-C ends", err=True)
        for job in changes(store, wanted=lambda each: _wanted(each, job_id, job_type, dataset), job_id=job_id):
            click.echo(json.dumps(json_of(job)) if as_json else line(job, store.clock.now()))
            if job_id is not None and job.status.ended:
                return 0 if job.status is JobStatus.COMPLETED else 1
    finally:
        store.close()
    return 0


def changes(
    store: Store,
    *,
    wanted: Callable[[Job], bool],
    job_id: str | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[Job]:
    """Each job that `wanted` asks for whenever it looks otherwise than before, for ever; at first what runs.

    An outage of the database is said once and waited for.
    """
    said: dict[str, str] = {}
    since = store.clock.now()
    mark: object = None
    silent = False
    while True:
        try:
            if (now := store.change_mark()) != mark:
                began = store.clock.now()
                moving = _moving(store, since - _OVERLAP, job_id)
                news = {job.job_id: _look(job) for job in moving}
                for job in moving:
                    # What ended before anybody watched is no news, unless it was asked for.
                    old = job.status.ended and job.updated_at < since and job.job_id not in said and job_id is None
                    if said.get(job.job_id) != news[job.job_id] and not old and wanted(job):
                        yield job
                said, since, mark = news, max(since, began), now
            silent = False
        except Transient as failed:
            if not silent:
                click.echo(f"no answer, trying on: {failed}", err=True)
            silent = True
        pause(_LOOK_SECONDS)


def _moving(store: Store, since: datetime, job_id: str | None) -> list[Job]:
    """The jobs that may look otherwise than at the last look: those that changed, and those that run."""
    if job_id is not None:
        job = store.jobs.get(job_id)
        return [] if job is None else [job]
    changed = [
        job
        for dataset_uuid in store.jobs.changed_since(since)
        for job in store.jobs.find(dataset_uuid=dataset_uuid, limit=_MOST_RUNNING)
        if job.updated_at >= since
    ]
    running = store.jobs.find(status=JobStatus.RUNNING, limit=_MOST_RUNNING)
    return sorted({job.job_id: job for job in (*changed, *running)}.values(), key=lambda job: job.updated_at)


def _wanted(job: Job, job_id: str | None, job_type: str | None, dataset: str | None) -> bool:
    return job_id in (None, job.job_id) and job_type in (None, job.job_type) and dataset in (None, job.dataset_uuid)


def line(job: Job, now: datetime) -> str:
    """``14:02:11 JOB running 45% level 2 of 5  dataset_conversion of DATASET``."""
    return f"{now.astimezone():%H:%M:%S} {job.job_id} {_look(job)}  {job.job_type} of {job.dataset_uuid}"


def _look(job: Job) -> str:
    match job.status:
        case JobStatus.RUNNING:
            asked = " cancelling" if job.cancel_requested else ""
            step = f" {job.progress.step}" if job.progress.step else ""
            return f"running{asked} on {job.worker_id} {job.progress.fraction:.0%}{step}"
        case JobStatus.PENDING if job.waits_for is WaitsFor.TURN:
            return "pending behind an earlier job"
        case JobStatus.PENDING if job.waits_for is WaitsFor.TIME:
            why = f" after {job.error.type}" if job.error else ""
            return f"pending until {job.run_at.astimezone():%H:%M:%S}{why}"
        case JobStatus.FAILED if job.error is not None:
            return f"failed: {job.error.message}"
        case _:
            return str(job.status)
