"""What the suites of job stores have in common: jobs to try with, and what an adapter's tests give."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scientistcloud.ports import Store
from scientistcloud.records import Job, JobError, NewJob

HEART = "11111111-1111-4111-8111-111111111111"
LUNG = "22222222-2222-4222-8222-222222222222"
CONVERSION = "dataset_conversion"
OOPS = JobError(type="OSError", message="the disk hiccuped")
HOPELESS = JobError(type="UnreadableSource", message="it is no TIFF", permanent=True)


def a_job(dataset_uuid: str = HEART, **fields: Any) -> NewJob:
    """A job on `dataset_uuid`; its id is new unless given."""
    given = {"job_id": str(uuid.uuid4()), "job_type": CONVERSION, "parameters": {}} | fields
    return NewJob(dataset_uuid=dataset_uuid, **given)


def claim(store: Store, worker_id: str = "ada", *, lease_seconds: float = 30) -> Job | None:
    """The next job of any type."""
    jobs = store.jobs.claim(worker_id, limit=1, job_types=None, lease_seconds=lease_seconds)
    return jobs[0] if jobs else None


def claimed(store: Store, worker_id: str = "ada") -> Job:
    """The next job, which has to be there."""
    job = claim(store, worker_id)
    assert job is not None
    return job


def now_of(store: Store, job: Job | str) -> Job:
    """The record as it is now."""
    found = store.jobs.get(job if isinstance(job, str) else job.job_id)
    assert found is not None
    return found


class JobStoreFixtures:
    """What an adapter's tests give: the fixture `store` (an empty database), and two ways past the port."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    def age(self, store: Store, job: Job, seconds: float) -> None:
        """Move the last heartbeat of `job` back."""
        raise NotImplementedError

    def insert_five_fields(self, store: Store, **five: str) -> None:
        """Insert a document as another client would: the five fields of the architecture of record alone."""
        raise NotImplementedError

    def _say(self, store: Store, call: str, job: Job) -> None:
        match call:
            case "heartbeat":
                store.jobs.heartbeat(job)
            case "complete":
                store.jobs.complete(job, result=None)
            case "fail":
                store.jobs.fail(job, OOPS, retry_after_seconds=60)
            case "release":
                store.jobs.release(job)
            case "acknowledge_cancel":
                store.jobs.acknowledge_cancel(job)

    def _slept(self, store: Store, began: float) -> float:
        while not store.jobs.claimable():
            store.jobs.wait(1)
        return time.monotonic() - began

    def _claimed_within(self, store: Store, seconds: float, worker_id: str = "ada") -> Job:
        """What is claimable once a pause is over."""
        deadline = time.monotonic() + seconds
        while (job := claim(store, worker_id)) is None:
            assert time.monotonic() < deadline, "nothing became claimable"
            time.sleep(0.02)
        return job

    def _until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.02)

    def _in_threads(self, work: Callable[[str], None], number: int) -> None:
        errors: list[BaseException] = []

        def guarded(name: str) -> None:
            try:
                work(name)
            except BaseException as error:  # noqa: BLE001  # raised again in the test's own thread
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(f"thread {n}",)) for n in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        if errors:
            raise errors[0]
