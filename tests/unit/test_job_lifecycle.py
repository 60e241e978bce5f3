"""The life of a job: each arrow of the diagram, and what holds after any sequence of events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scientistcloud.errors import AlreadyFinished, InvalidTransition, LeaseLost
from scientistcloud.jobs.lifecycle import (
    HISTORY_LENGTH,
    Beat,
    CancelAcknowledged,
    CancelAsked,
    Claimed,
    Completed,
    Due,
    Event,
    Failed,
    Lost,
    Promoted,
    Released,
    Retried,
    after,
    created,
    rank,
)
from scientistcloud.records import Job, JobError, JobStatus, NewJob, Progress, WaitsFor

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
HEART = "11111111-1111-4111-8111-111111111111"
OOPS = JobError(type="OSError", message="the disk hiccuped")
HOPELESS = replace(OOPS, permanent=True)


def a_job(*, line_free: bool = True, run_at: datetime | None = None, priority: int = 2, tries: int = 3) -> Job:
    new = NewJob(
        job_id="one",
        dataset_uuid=HEART,
        job_type="dataset_conversion",
        parameters={},
        priority=priority,
        max_attempts=tries,
        run_at=run_at,
    )
    return created(new, seq=1, line_free=line_free, now=NOON)


def running(*, tries: int = 3) -> Job:
    return after(a_job(tries=tries), Claimed("ada", 1, 30), NOON)


# -- each arrow ----------------------------------------------------------------------------------


def test_a_job_in_a_free_line_is_its_head_at_once() -> None:
    job = a_job()

    assert (job.head, job.waits_for, job.rank) == (HEART, WaitsFor.NOTHING, NOON.timestamp() + 600)


def test_a_job_in_a_line_waits_for_its_turn_without_a_rank() -> None:
    job = a_job(line_free=False)

    assert (job.head, job.waits_for, job.rank) == (None, WaitsFor.TURN, None)


def test_a_delayed_job_is_not_head_even_of_a_free_line() -> None:
    job = a_job(run_at=NOON + timedelta(hours=1))

    assert (job.head, job.waits_for, job.rank) == (None, WaitsFor.TIME, rank(NOON + timedelta(hours=1), 2))


def test_a_time_in_the_past_is_now() -> None:
    job = a_job(run_at=NOON - timedelta(hours=1))

    assert (job.waits_for, job.rank) == (WaitsFor.NOTHING, rank(NOON, 2))


def test_low_priority_waits_at_most_twenty_minutes_behind_later_arrivals() -> None:
    assert rank(NOON, 3) < rank(NOON + timedelta(minutes=20, seconds=1), 1)


def test_a_promoted_job_counts_from_its_promotion() -> None:
    later = NOON + timedelta(minutes=5)

    job = after(a_job(line_free=False), Promoted(), later)

    assert (job.head, job.waits_for, job.rank) == (HEART, WaitsFor.NOTHING, rank(later, 2))


def test_a_due_job_joins_a_taken_line_and_heads_a_free_one() -> None:
    due = NOON + timedelta(hours=1)
    delayed = a_job(run_at=due)
    late = due + timedelta(minutes=1)

    assert after(delayed, Due(line_free=False), late).waits_for is WaitsFor.TURN
    assert after(delayed, Due(line_free=True), late).rank == rank(due, 2)


def test_a_claim_counts_a_try_and_takes_the_job_out_of_the_waiting() -> None:
    job = running()

    assert (job.status, job.attempt, job.token, job.worker_id) == (JobStatus.RUNNING, 1, 1, "ada")
    assert (job.head, job.waits_for, job.rank) == (HEART, None, None)


def test_a_heartbeat_without_news_keeps_the_progress() -> None:
    job = after(running(), Beat(1, Progress(fraction=0.5)), NOON)

    later = after(job, Beat(1, None), NOON + timedelta(seconds=10))

    assert (later.progress.fraction, later.heartbeat_at) == (0.5, NOON + timedelta(seconds=10))


def test_a_pause_keeps_the_head() -> None:
    job = after(running(), Failed(1, OOPS, retry_after_seconds=20), NOON)

    assert (job.status, job.head, job.waits_for) == (JobStatus.PENDING, HEART, WaitsFor.TIME)
    assert (job.run_at, job.worker_id) == (NOON + timedelta(seconds=20), None)
    assert after(job, Due(line_free=True), job.run_at).waits_for is WaitsFor.NOTHING


def test_a_pause_is_not_cut_short() -> None:
    job = after(running(), Failed(1, OOPS, retry_after_seconds=20), NOON)

    with pytest.raises(InvalidTransition, match="not due"):
        after(job, Due(line_free=True), NOON + timedelta(seconds=19))


@pytest.mark.parametrize(
    ("job", "error", "status"),
    [
        (running(), HOPELESS, JobStatus.FAILED),
        (running(tries=1), OOPS, JobStatus.FAILED),
        (running(tries=2), OOPS, JobStatus.PENDING),
    ],
)
def test_a_failure_ends_the_job_when_it_is_for_good_or_the_last(
    job: Job, error: JobError, status: JobStatus
) -> None:
    assert after(job, Failed(1, error, 1), NOON).status is status


def test_a_lost_worker_is_named_with_how_often_it_happened() -> None:
    job = running(tries=2)
    job = after(job, Lost(0, next_token=2), NOON)
    assert job.token == 1
    job = after(after(job, Due(line_free=False), NOON), Claimed("bob", 2, 30), NOON)

    job = after(job, Lost(0, next_token=3), NOON)

    assert (job.status, job.token) == (JobStatus.FAILED, 3)
    assert job.error is not None
    assert job.error.message.startswith("the worker was lost 2 times")


def test_a_completion_wins_over_a_cancel_that_was_asked_for() -> None:
    asked = after(running(), CancelAsked(), NOON)

    assert after(asked, Completed(1, {"a": 1}), NOON).status is JobStatus.COMPLETED


def test_a_job_cancelled_unclaimed_and_retried_has_its_old_token_and_a_new_place() -> None:
    job = after(after(a_job(), CancelAsked(), NOON), Retried(7, line_free=False), NOON)

    assert (job.token, job.seq, job.waits_for) == (0, 7, WaitsFor.TURN)


@pytest.mark.parametrize(
    "event", [Promoted(), Due(line_free=True), Retried(2, line_free=True), Lost(0, 2), Claimed("bob", 0, 30)]
)
def test_what_the_state_does_not_allow_is_refused(event: Event) -> None:
    with pytest.raises(InvalidTransition, match="job one"):
        after(a_job(), event, NOON)


# -- any sequence --------------------------------------------------------------------------------

_TOKENS = st.integers(0, 4)
_EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.just(Promoted()),
    st.builds(Due, st.booleans()),
    st.just(CancelAsked()),
    st.builds(Retried, st.integers(2, 9), st.booleans()),
    st.builds(Claimed, st.sampled_from(["ada", "bob"]), st.integers(1, 5), st.just(30.0)),
    st.builds(Beat, _TOKENS, st.none() | st.builds(Progress, fraction=st.floats(0, 1))),
    st.builds(Completed, _TOKENS, st.none()),
    st.builds(Failed, _TOKENS, st.sampled_from([OOPS, HOPELESS]), st.floats(0, 10)),
    st.builds(Released, _TOKENS),
    st.builds(CancelAcknowledged, _TOKENS),
    st.builds(Lost, st.floats(0, 10), st.integers(6, 9)),
)
_BEGINNINGS = st.builds(
    a_job,
    line_free=st.booleans(),
    run_at=st.none() | st.just(NOON + timedelta(seconds=5)),
    priority=st.integers(1, 3),
    tries=st.integers(1, 3),
)


def check(job: Job) -> None:
    """What is true of every job there can be."""
    pending = job.status is JobStatus.PENDING
    assert (job.waits_for is not None) == pending
    assert (job.rank is not None) == (job.waits_for in (WaitsFor.NOTHING, WaitsFor.TIME))
    assert (job.finished_at is not None) == job.status.ended
    if job.status.ended or job.waits_for is WaitsFor.TURN:
        assert job.head is None
    if job.status is JobStatus.RUNNING or job.waits_for is WaitsFor.NOTHING:
        assert job.head == job.dataset_uuid
    if job.status is JobStatus.RUNNING:
        assert job.worker_id
        assert job.lease_seconds
        assert job.heartbeat_at
        assert job.started_at
    if pending:
        assert (job.worker_id, job.lease_seconds, job.started_at, job.result) == (None, None, None, None)
        assert not job.cancel_requested
        assert job.attempt < job.max_attempts
    assert 0 <= job.attempt <= job.max_attempts
    assert len(job.history) <= HISTORY_LENGTH
    if job.status is JobStatus.FAILED:
        assert job.error is not None


@given(job=_BEGINNINGS, events=st.lists(st.tuples(_EVENTS, st.integers(0, 10)), max_size=40))
def test_after_any_events_a_job_is_in_order(job: Job, events: list[tuple[Event, int]]) -> None:
    now = NOON
    check(job)
    for event, seconds in events:
        now += timedelta(seconds=seconds)
        before = job
        try:
            job = after(before, event, now)
        except (InvalidTransition, LeaseLost):
            continue
        check(job)
        assert job.token >= before.token
        assert (job.job_id, job.dataset_uuid, job.created_at) == ("one", HEART, NOON)
        if before.status.ended and job is not before:
            assert isinstance(event, Retried)
            assert before.status is not JobStatus.COMPLETED


@given(job=_BEGINNINGS, events=st.lists(_EVENTS, max_size=20), said=_EVENTS)
def test_a_worker_s_words_said_twice_change_nothing(job: Job, events: list[Event], said: Event) -> None:
    for event in events:
        try:
            job = after(job, event, NOON)
        except (InvalidTransition, LeaseLost):
            continue
    try:
        once = after(job, said, NOON)
    except (InvalidTransition, LeaseLost):
        return

    if isinstance(said, Completed | Failed | Released | CancelAcknowledged):
        assert after(once, said, NOON + timedelta(seconds=1)) is once


@given(events=st.lists(_EVENTS, max_size=20), token=_TOKENS)
def test_a_token_that_is_not_the_job_s_never_changes_it(events: list[Event], token: int) -> None:
    job = a_job()
    for event in events:
        try:
            job = after(job, event, NOON)
        except (InvalidTransition, LeaseLost):
            continue
    if token == job.token:
        return

    for said in (Beat(token, None), Completed(token, None), Failed(token, OOPS, 1), Released(token)):
        with pytest.raises(LeaseLost, match="change nothing"):
            after(job, said, NOON)


@given(job=_BEGINNINGS, events=st.lists(_EVENTS, max_size=20))
def test_every_state_has_an_event_that_leaves_it(job: Job, events: list[Event]) -> None:
    for event in events:
        try:
            job = after(job, event, NOON)
        except (InvalidTransition, LeaseLost):
            continue

    match job.status:
        case JobStatus.PENDING:
            assert after(job, CancelAsked(), NOON).status is JobStatus.CANCELLED
        case JobStatus.RUNNING:
            assert after(job, Lost(0, 99), NOON).status is not JobStatus.RUNNING
        case JobStatus.FAILED | JobStatus.CANCELLED:
            assert after(job, Retried(99, line_free=True), NOON).status is JobStatus.PENDING
        case JobStatus.COMPLETED:
            with pytest.raises(AlreadyFinished):
                after(job, CancelAsked(), NOON)
