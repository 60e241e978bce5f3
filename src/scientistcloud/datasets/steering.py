"""Jobs as people steer them: a job changes, and its data set's status follows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scientistcloud.datasets.settling import settle
from scientistcloud.errors import InvalidTransition, NotFound
from scientistcloud.logs import facts
from scientistcloud.ports import Store
from scientistcloud.records import Job, JobStatus

logger = logging.getLogger(__name__)

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriedAll:
    """What became of many failed jobs that somebody wants to run again."""

    retried: tuple[Job, ...]
    #: Left failed: their data set is deleted, or a later job of the same type did their work.
    left: tuple[Job, ...]


def cancel(store: Store, job_id: str) -> Job:
    """Cancel the job: at once while it waits, as soon as its worker hears of it while it runs.

    Raises `NotFound`, `AlreadyFinished`.
    """
    job = store.jobs.cancel(job_id)
    settle(store, job.dataset_uuid)
    logger.info("cancel asked for%s", facts(dataset_uuid=job.dataset_uuid, job_id=job_id, status=job.status))
    return job


def retry(store: Store, job_id: str) -> Job:
    """Let a failed or cancelled job join its line again. Raises `NotFound`, `InvalidTransition`."""
    job = store.jobs.retry(job_id)
    settle(store, job.dataset_uuid)
    logger.info("retried%s", facts(dataset_uuid=job.dataset_uuid, job_id=job_id))
    return job


def failed(
    store: Store, *, job_type: str | None = None, error: str | None = None, dataset_uuid: str | None = None
) -> Iterator[Job]:
    """The failed jobs, in the order of creation; `error`: part of the error's type or message, case ignored."""
    after = None
    while page := store.jobs.find(
        status=JobStatus.FAILED,
        job_type=job_type,
        error=error,
        dataset_uuid=dataset_uuid,
        after=after,
        limit=_PAGE,
    ):
        yield from page
        after = page[-1].job_id


def retry_failed(store: Store, jobs: Sequence[Job]) -> RetriedAll:
    """Retry each of `jobs`, one after the other, save where that would do again what is done.

    Each retry is a step of its own: what broke off is completed by the same call.
    """
    retried, left = [], []
    for job in jobs:
        try:
            if _is_worth_it(store, job):
                retried.append(retry(store, job.job_id))
            else:
                left.append(job)
        except (InvalidTransition, NotFound):
            continue  # somebody else was faster
    return RetriedAll(retried=tuple(retried), left=tuple(left))


def _is_worth_it(store: Store, job: Job) -> bool:
    target = store.targets.get(job.dataset_uuid)
    if target is not None and target.deleted_at is not None:
        return False
    done = store.jobs.find(
        dataset_uuid=job.dataset_uuid, job_type=job.job_type, status=JobStatus.COMPLETED, after=job.job_id, limit=1
    )
    return not done
