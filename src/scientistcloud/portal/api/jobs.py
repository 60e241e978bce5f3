"""Jobs over HTTP. Here alone does a person's e-mail select anything: their data sets, for display.

What processes jobs knows only `dataset_uuid` (docs/decisions/0001).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from scientistcloud.datasets import steering
from scientistcloud.datasets.lifecycle import CONVERSION
from scientistcloud.portal.dependencies import Caller, ChangedJob, SeenJob, TheSettings, TheStore
from scientistcloud.portal.files import file_answer
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetStatus, Job, JobError, JobStatus, Person, json_of

router = APIRouter(tags=["jobs"])

_PAGE = 500
FAILED = (DatasetStatus.UPLOAD_ERROR, DatasetStatus.UNZIP_ERROR, DatasetStatus.CONVERSION_ERROR)
IN_CONVERSION = (DatasetStatus.CONVERSION_QUEUED, DatasetStatus.CONVERTING)


class JobRow(BaseModel):
    """A data set and the job that works on it, or will."""

    #: The running job, else the head of the line, else the newest; null before there is one.
    job_id: str | None
    id: str | None
    job_type: str
    #: The data set's.
    status: DatasetStatus
    dataset_uuid: str
    dataset_name: str
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    progress_percentage: float
    error: str | None


class JobList(BaseModel):
    success: bool = True
    #: How many data sets have one of the statuses, on this page or another.
    total: int
    jobs: list[JobRow]


def row_of(dataset: Dataset, job: Job | None) -> JobRow:
    """One line of `GET /api/jobs`."""
    wanted = dataset.wanted.job_type if dataset.wanted else CONVERSION
    error = dataset.error or (job.error.message if job and job.error else None)
    return JobRow(
        job_id=job.job_id if job else None,
        id=job.job_id if job else None,
        job_type=job.job_type if job else wanted,
        status=dataset.status,
        dataset_uuid=dataset.uuid,
        dataset_name=dataset.name,
        created_at=(job or dataset).created_at,
        updated_at=max(dataset.updated_at, job.updated_at) if job else dataset.updated_at,
        completed_at=job.finished_at if job else None,
        progress_percentage=round(100 * job.progress.fraction, 1) if job else 0.0,
        error=error,
    )


@router.get("/api/jobs")
def list_jobs(
    caller: Caller,
    store: TheStore,
    status: Annotated[list[DatasetStatus] | None, Query(description="More statuses of data sets to show")] = None,
    after: Annotated[str | None, Query(description="The last `dataset_uuid` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> JobList:
    """The caller's data sets that wait for their conversion or are being converted, newest first."""
    statuses = tuple(dict.fromkeys((*IN_CONVERSION, *(status or ()))))
    counts = store.datasets.counts(user=caller.email)
    datasets = store.datasets.find(user=caller.email, statuses=statuses, after=after, limit=limit)
    current = store.jobs.current([dataset.uuid for dataset in datasets])
    return JobList(
        total=sum(counts.get(each, 0) for each in statuses),
        jobs=[row_of(dataset, current.get(dataset.uuid)) for dataset in datasets],
    )


class Retried(BaseModel):
    """What became of many failed jobs."""

    #: These wait to run again.
    retried: list[str]
    #: These stay failed: a later job of the same type did their work.
    left: list[str]


@router.post("/api/jobs/retry-failed")
def retry_all_failed(
    caller: Caller,
    store: TheStore,
    job_type: Annotated[str | None, Query(description="Only jobs of this type")] = None,
    error: Annotated[str | None, Query(description="Only jobs whose error says this")] = None,
) -> Retried:
    """Let the job that failed last on each of the caller's data sets join its line again."""
    became = retry_failed(store, caller, job_type=job_type, error=error)
    return Retried(retried=[job.job_id for job in became.retried], left=[job.job_id for job in became.left])


@router.get("/api/jobs/{job_id}")
def get_job(job: SeenJob) -> dict[str, Any]:
    """The job with its parameters, progress, error and history."""
    return json_of(job)


@router.post("/api/jobs/{job_id}/cancel")
def cancel_job(job: ChangedJob, store: TheStore) -> dict[str, Any]:
    """End it: at once while it waits, as soon as its worker hears of it while it runs. 409 where it has ended."""
    return json_of(steering.cancel(store, job.job_id))


@router.post("/api/jobs/{job_id}/retry")
def retry_job(job: ChangedJob, store: TheStore) -> dict[str, Any]:
    """A failed or cancelled job joins its data set's line again. 409 otherwise."""
    return json_of(steering.retry(store, job.job_id))


@router.get("/api/jobs/{job_id}/log", response_class=Response)
def get_log(job: SeenJob, request: Request, settings: TheSettings) -> Response:
    """What its attempts said, as plain text; with byte ranges, so that its tail can be followed."""
    log = settings.folder.log(job.job_id)
    if not log.is_file():
        return Response("", media_type="text/plain")
    return file_answer(log.parent, (log.name,), request, media_type="text/plain; charset=utf-8")


def retry_failed(
    store: Store, person: Person, *, job_type: str | None = None, error: str | None = None
) -> steering.RetriedAll:
    """Retry what failed last on each of the person's data sets that failed; narrowed by type and error."""
    jobs: list[Job] = []
    after = None
    while page := store.datasets.find(user=person.email, statuses=FAILED, after=after, limit=_PAGE):
        lasts = [store.jobs.line(dataset.uuid).last for dataset in page]
        jobs += [
            job
            for job in lasts
            if job is not None
            and job.status is JobStatus.FAILED
            and job_type in (None, job.job_type)
            and (error is None or (job.error is not None and says(job.error, error)))
        ]
        after = page[-1].uuid
    return steering.retry_failed(store, jobs)


def says(found: JobError, text: str) -> bool:
    """Whether the error's type or message has `text` in it, case ignored."""
    return text.casefold() in f"{found.type} {found.message}".casefold()
