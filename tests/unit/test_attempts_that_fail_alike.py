"""The same signal or memory limit twice in a row of tries is permanent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from scientistcloud.jobs.lifecycle import created
from scientistcloud.records import Attempt, Job, JobError, NewJob
from scientistcloud.service.failures import again

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SEGV = JobError(type="KilledBySIGSEGV", message="")
MEMORY = JobError(type="OutOfMemory", message="")


def a_job(attempt: int, *history: tuple[int, JobError | None]) -> Job:
    new = NewJob(job_id="j", dataset_uuid="d", job_type="dataset_conversion", parameters={})
    job = created(new, seq=1, line_free=True, now=NOON)
    ended = tuple(
        Attempt(number=number, worker_id="ada", started_at=NOON, finished_at=NOON, outcome="failed", error=error)
        for number, error in history
    )
    return replace(job, attempt=attempt, history=ended)


def test_the_first_time_is_not_permanent() -> None:
    assert not again(a_job(1), SEGV)
    assert not again(a_job(2, (1, None)), MEMORY)


def test_the_second_time_is_permanent() -> None:
    assert again(a_job(2, (1, SEGV)), SEGV)
    assert again(a_job(3, (1, MEMORY), (2, SEGV)), MEMORY)


def test_another_signal_is_not_the_same() -> None:
    assert not again(a_job(2, (1, SEGV)), JobError(type="KilledBySIGKILL", message=""))


def test_what_can_pass_is_never_permanent_by_repetition() -> None:
    hangs = JobError(type="TimeOut", message="")

    assert not again(a_job(2, (1, hangs)), hangs)


def test_a_try_that_was_given_back_counts_as_none() -> None:
    assert not again(a_job(1, (1, SEGV)), SEGV)


def test_a_retry_by_hand_begins_anew() -> None:
    assert not again(a_job(2, (1, SEGV), (2, SEGV), (1, None)), SEGV)
