"""The queue as programs use it: jobs on data sets, claimed by workers, each call safe and complete in itself."""

from __future__ import annotations

import inspect
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from scientistcloud.errors import InvalidParameters, SourceError
from scientistcloud.jobs.parameters import (
    ATTEMPTS_LIMIT,
    PARAMETERS_LIMIT_BYTES,
    checked_fraction,
    checked_name,
    checked_parameters,
    checked_result,
    checked_seconds,
    checked_time,
    checked_type,
    checked_uuid,
    checked_whole,
)
from scientistcloud.jobs.retry import pause_seconds
from scientistcloud.ports import Store
from scientistcloud.records import Job, JobError, JobStatus, Json, NewJob, Progress, QueueStats

CLAIM_LIMIT = 1000
LIST_LIMIT = 10_000
# A waiting claim looks this often whatever happens, so that lost leases are taken back without a service.
_LOOK_SECONDS = 1.0
_MESSAGE_LENGTH = 2000


class JobQueueManager:
    """The queue in `store`. Threads may share it.

    Parameters
    ----------
    lease_seconds
        For how long a claimed job belongs to its worker without a heartbeat.
    max_pending_per_dataset
        Unfinished jobs that one data set may have; beyond it `create_job` raises `QueueFull`. None: no cap.
    max_parameters_bytes
        How large a job's parameters may be, as JSON; beyond it `create_job` raises `InvalidParameters`.

    Raises
    ------
    Unavailable
        Any call, when the database does not answer. It never means that the queue is empty.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease_seconds: float = 30,
        max_pending_per_dataset: int | None = None,
        max_parameters_bytes: int = PARAMETERS_LIMIT_BYTES,
    ) -> None:
        self._jobs = store.jobs
        self._lease_seconds = checked_seconds(lease_seconds, "lease_seconds")
        self._max_pending = max_pending_per_dataset
        self._max_parameters_bytes = max_parameters_bytes

    # -- creating --------------------------------------------------------------------------------

    def create_job(
        self,
        *,
        dataset_uuid: str,
        job_type: str,
        parameters: Json,
        priority: int = 2,
        max_attempts: int = 3,
        run_at: datetime | None = None,
        timeout_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Durably add a job to its data set's line; its `job_id`.

        A known `idempotency_key` for the same data set and type gives the id it gave before, whatever became of
        that job. Raises `InvalidParameters`, `IdempotencyConflict`, `QueueFull`.
        """
        new = self._checked(
            dataset_uuid=dataset_uuid,
            job_type=job_type,
            parameters=parameters,
            priority=priority,
            max_attempts=max_attempts,
            run_at=run_at,
            timeout_seconds=timeout_seconds,
            idempotency_key=idempotency_key,
        )
        return self._jobs.create([new], max_pending_per_dataset=self._max_pending)[0]

    def create_jobs(self, jobs: Sequence[Mapping[str, Any]]) -> list[str]:
        """Add many, each given by the keywords of `create_job`: all in one commit on an embedded database."""
        new = [self._checked(**_with_known_keywords(each)) for each in jobs]
        return self._jobs.create(new, max_pending_per_dataset=self._max_pending) if new else []

    # -- working ---------------------------------------------------------------------------------

    def get_next_job(
        self, worker_id: str, *, job_types: Sequence[str] | None = None, wait_seconds: float = 0
    ) -> Job | None:
        """Claim the next due job for `worker_id`; None when there is none within `wait_seconds`.

        Pending jobs only, whoever's data set it is. `job_types`: what this worker can run; None: every type.
        """
        jobs = self.get_next_jobs(worker_id, 1, job_types=job_types, wait_seconds=wait_seconds)
        return jobs[0] if jobs else None

    def get_next_jobs(
        self, worker_id: str, limit: int, *, job_types: Sequence[str] | None = None, wait_seconds: float = 0
    ) -> list[Job]:
        """Claim up to `limit` due jobs, each of another data set; waits only while there is none."""
        checked_name(worker_id, "worker_id")
        checked_whole(limit, "limit", least=1, most=CLAIM_LIMIT)
        types = _checked_types(job_types)
        deadline = time.monotonic() + checked_seconds(wait_seconds, "wait_seconds", zero=True)
        while True:
            jobs = self._jobs.claim(worker_id, limit=limit, job_types=types, lease_seconds=self._lease_seconds)
            left = deadline - time.monotonic()
            if jobs or left <= 0:
                return jobs
            self._jobs.wait(min(left, _LOOK_SECONDS))

    def heartbeat(self, job: Job, *, progress: float | Progress | None = None, message: str | None = None) -> Job:
        """Renew the lease, perhaps with news; the record as it is now.

        `progress`: the fraction done, 0 to 1, or all of it as a record. Raises `LeaseLost` when the job is
        another's by now (stop, change nothing), `Cancelled` when its end was asked for (stop, acknowledge).
        """
        news = None
        if isinstance(progress, Progress):
            checked_fraction(progress.fraction)
            news = progress
        elif progress is not None:
            news = replace(job.progress, fraction=checked_fraction(progress))
        if message is not None:
            news = replace(news or job.progress, message=one_line(message))
        return self._jobs.heartbeat(job, progress=news)

    def complete_job(
        self,
        job: Job,
        result: Json | None = None,
        *,
        claim_next: bool = False,
        job_types: Sequence[str] | None = None,
    ) -> Job | None:
        """End the job as completed, durably; with `claim_next` also claim the next for `job.worker_id`.

        On an embedded database both are one commit. Raises `LeaseLost`; said twice it succeeds again.
        """
        return self._jobs.complete(
            job, result=checked_result(result), claim_next=claim_next, job_types=_checked_types(job_types)
        )

    def complete_jobs(
        self,
        jobs: Sequence[Job],
        results: Sequence[Json | None] | None = None,
        *,
        claim_next: bool = False,
        job_types: Sequence[str] | None = None,
    ) -> list[Job]:
        """End many jobs as completed; with `claim_next` also claim as many for the worker of the first.

        `results`: one for each job; None: none for any. On an embedded database all of it is one commit, so small
        jobs go through many times as fast. Where the worker has lost some, the others end all the same, nothing is
        claimed, and `LeaseLost` names the lost ones; said twice it succeeds again.
        """
        if results is not None and len(results) != len(jobs):
            raise InvalidParameters(
                f"complete_jobs got {len(jobs)} jobs and {len(results)} results; give one for each"
            )
        if not jobs:
            return []
        checked_whole(len(jobs), "the number of jobs", least=1, most=CLAIM_LIMIT)
        ends = [
            (job, checked_result(result)) for job, result in zip(jobs, results or [None] * len(jobs), strict=True)
        ]
        return self._jobs.complete_many(ends, claim_next=claim_next, job_types=_checked_types(job_types))

    def fail_job(self, job: Job, error: str | BaseException | JobError, *, permanent: bool = False) -> Job:
        """End the attempt: the job runs again after a growing pause, or has failed; the record as it is now.

        Failed it has when `permanent` (a `SourceError` is by itself) or when its tries are used up. A job whose
        cancel was requested is cancelled instead. Raises `LeaseLost`; said twice it succeeds again.
        """
        pause = pause_seconds(job.attempt, chance=random.random())  # noqa: S311  # jitter, not a secret
        return self._jobs.fail(job, _job_error(error, permanent=permanent), retry_after_seconds=pause)

    def release_job(self, job: Job) -> Job:
        """Give the job back unharmed, the try not counted; the record as it is now. Raises `LeaseLost`."""
        return self._jobs.release(job)

    def acknowledge_cancel(self, job: Job) -> Job:
        """End a job whose cancel was requested as cancelled; the record as it is now. Raises `LeaseLost`."""
        return self._jobs.acknowledge_cancel(job)

    # -- steering --------------------------------------------------------------------------------

    def cancel_job(self, job_id: str) -> Job:
        """A pending job is cancelled at once, a running one asked to end. `NotFound`, `AlreadyFinished`."""
        return self._jobs.cancel(job_id)

    def retry_job(self, job_id: str) -> Job:
        """A failed or cancelled job joins its line again, last, with fresh tries.

        Raises `NotFound`, `InvalidTransition`.
        """
        return self._jobs.retry(job_id)

    def pause_type(self, job_type: str) -> None:
        """Hand out no job of `job_type`, whoever asks, until `resume_type`; what runs goes on."""
        self._jobs.pause(checked_type(job_type))

    def resume_type(self, job_type: str) -> None:
        """Hand out jobs of `job_type` again, at once."""
        self._jobs.resume(checked_type(job_type))

    # -- looking ---------------------------------------------------------------------------------

    def get_job(self, job_id: str) -> Job | None:
        """The job, None where there is none."""
        return self._jobs.get(job_id)

    def list_jobs(
        self,
        *,
        dataset_uuid: str | None = None,
        status: JobStatus | str | None = None,
        job_type: str | None = None,
        error: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Jobs in order: those of one data set in the order of its line, else in that of creation.

        `error`: part of the type or message of the job's error, case ignored. `after`: only what comes after this
        job, for the next page. Raises `NotFound` where it is gone.
        """
        checked_whole(limit, "limit", least=1, most=LIST_LIMIT)
        return self._jobs.find(
            dataset_uuid=dataset_uuid,
            status=_checked_status(status),
            job_type=job_type,
            error=error,
            after=after,
            limit=limit,
        )

    def stats(self) -> QueueStats:
        """The queue's figures at this moment."""
        return self._jobs.stats()

    # -- details ---------------------------------------------------------------------------------

    def _checked(
        self,
        *,
        dataset_uuid: object,
        job_type: object,
        parameters: object,
        priority: object = 2,
        max_attempts: object = 3,
        run_at: object = None,
        timeout_seconds: object = None,
        idempotency_key: object = None,
    ) -> NewJob:
        return NewJob(
            job_id=str(uuid.uuid4()),
            dataset_uuid=checked_uuid(dataset_uuid),
            job_type=checked_type(job_type),
            parameters=checked_parameters(parameters, limit_bytes=self._max_parameters_bytes),
            priority=checked_whole(priority, "priority", least=1, most=3),
            max_attempts=checked_whole(max_attempts, "max_attempts", least=1, most=ATTEMPTS_LIMIT),
            run_at=None if run_at is None else checked_time(run_at, "run_at"),
            timeout_seconds=None
            if timeout_seconds is None
            else checked_seconds(timeout_seconds, "timeout_seconds"),
            idempotency_key=None if idempotency_key is None else checked_name(idempotency_key, "idempotency_key"),
        )


_KEYWORDS = frozenset(inspect.signature(JobQueueManager.create_job).parameters) - {"self"}
_NEEDED = frozenset({"dataset_uuid", "job_type", "parameters"})


def one_line(message: str) -> str:
    """`message` as one line of bounded length."""
    line = " ".join(message.split())
    return line if len(line) <= _MESSAGE_LENGTH else line[: _MESSAGE_LENGTH - 1] + "…"


def _with_known_keywords(job: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(job, Mapping):
        raise InvalidParameters("each job of create_jobs is a dict of the keywords of create_job")
    if not job.keys() <= _KEYWORDS:
        unknown = sorted(map(str, job.keys() - _KEYWORDS))
        raise InvalidParameters(
            f"create_jobs does not know {', '.join(unknown)}; it takes {', '.join(sorted(_KEYWORDS))}"
        )
    if not job.keys() >= _NEEDED:
        missing = sorted(_NEEDED - job.keys())
        raise InvalidParameters(f"create_jobs needs {', '.join(missing)} for each job")
    return dict(job)


def _checked_types(job_types: Sequence[str] | None) -> list[str] | None:
    if job_types is None:
        return None
    if isinstance(job_types, str):
        raise InvalidParameters(f"job_types is {job_types!r}; give a list, as in [{job_types!r}]")
    return [checked_type(each) for each in job_types]


def _checked_status(status: JobStatus | str | None) -> JobStatus | None:
    try:
        return None if status is None else JobStatus(status)
    except ValueError:
        known = ", ".join(JobStatus)
        raise InvalidParameters(f"status is {status!r}; a job is one of {known}") from None


def _job_error(error: str | BaseException | JobError, *, permanent: bool) -> JobError:
    match error:
        case JobError():
            return replace(error, message=one_line(error.message), permanent=error.permanent or permanent)
        case BaseException():
            kind = type(error).__name__
            permanent = permanent or isinstance(error, SourceError)
            return JobError(type=kind, message=one_line(str(error)) or kind, permanent=permanent)
        case str():
            return JobError(type="JobError", message=one_line(error), permanent=permanent)
        case _:
            raise InvalidParameters("fail_job takes the error as a text, an exception or a JobError")
