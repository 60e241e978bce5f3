"""The queue as a program uses it, on a real database."""

from __future__ import annotations

import math
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scientistcloud import JobQueueManager, open_store
from scientistcloud.datasets.settling import settle
from scientistcloud.errors import (
    Cancelled,
    InvalidParameters,
    LeaseLost,
    NotFound,
    QueueFull,
    UnreadableSource,
)
from scientistcloud.jobs.parameters import PARAMETERS_LIMIT_BYTES
from scientistcloud.ports import Store
from scientistcloud.records import Job, JobError, JobStatus, Progress, WaitsFor
from scientistcloud.testing.clock import ManualClock
from scientistcloud.testing.dataset_store import kept
from scientistcloud.testing.site_store import ADA

HEART = "11111111-1111-4111-8111-111111111111"
LUNG = "22222222-2222-4222-8222-222222222222"
CONVERSION = "dataset_conversion"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/scientistcloud.db", clock=clock)
    yield store
    store.close()


@pytest.fixture
def queue(store: Store) -> JobQueueManager:
    return JobQueueManager(store)


def create(queue: JobQueueManager, dataset_uuid: str = HEART, **more: Any) -> str:
    return queue.create_job(**({"dataset_uuid": dataset_uuid, "job_type": CONVERSION, "parameters": {}} | more))


def claimed(queue: JobQueueManager, worker_id: str = "ada") -> Job:
    job = queue.get_next_job(worker_id)
    assert job is not None
    return job


def now_of(queue: JobQueueManager, job_id: str) -> Job:
    job = queue.get_job(job_id)
    assert job is not None
    return job


# -- creating ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"dataset_uuid": "heart"}, "dataset_uuid"),
        ({"job_type": "Convert!"}, "job_type"),
        ({"parameters": {"user_email": "ada@example.org"}}, "names a person"),
        ({"parameters": {"steps": [{"owner": "ada"}]}}, r"steps\[0\].owner"),
        ({"parameters": {"a": math.nan}}, "not JSON"),
        ({"parameters": {"a": "x" * PARAMETERS_LIMIT_BYTES}}, "put it into a file"),
        ({"priority": 0}, "priority"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"run_at": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001  # that is the mistake
        ({"timeout_seconds": -1}, "timeout_seconds"),
        ({"idempotency_key": ""}, "idempotency_key"),
    ],
)
def test_a_job_that_cannot_be_accepted_is_refused_and_not_kept(
    queue: JobQueueManager, wrong: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidParameters, match=why):
        create(queue, **wrong)
    assert queue.list_jobs() == []


def test_the_largest_parameters_are_a_setting(store: Store) -> None:
    queue = JobQueueManager(store, max_parameters_bytes=2_000_000)
    large = {"names": "x" * 1_500_000}

    job_id = queue.create_job(dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters=large)

    assert queue.get_job(job_id).parameters == large  # type: ignore[union-attr]
    with pytest.raises(InvalidParameters, match="more than 2000000; put it into a file"):
        queue.create_job(
            dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={"names": "x" * (20 << 20)}
        )


def test_one_wrong_job_among_many_keeps_all_out(queue: JobQueueManager) -> None:
    good: dict[str, Any] = {"dataset_uuid": HEART, "job_type": CONVERSION, "parameters": {}}

    for wrong in ({"priority": 9}, {"colour": "red"}, {"parameters": {"email": "x"}}):
        with pytest.raises(InvalidParameters):
            queue.create_jobs([good, good | wrong])
    with pytest.raises(InvalidParameters, match="needs parameters"):
        queue.create_jobs([{"dataset_uuid": HEART, "job_type": CONVERSION}])
    assert queue.list_jobs() == []


def test_many_jobs_are_made_in_one_call(queue: JobQueueManager) -> None:
    ids = queue.create_jobs(
        [{"dataset_uuid": HEART, "job_type": CONVERSION, "parameters": {"n": n}} for n in range(300)]
    )

    assert [job.job_id for job in queue.list_jobs(limit=1000)] == ids
    assert queue.create_jobs([]) == []


def test_a_line_can_have_a_cap(store: Store) -> None:
    queue = JobQueueManager(store, max_pending_per_dataset=2)
    create(queue)
    create(queue)

    with pytest.raises(QueueFull, match="MAX_PENDING_PER_DATASET"):
        create(queue)


# -- working -------------------------------------------------------------------------------------


def test_the_page_s_example_works(store: Store) -> None:
    queue = JobQueueManager(store)

    job_id = queue.create_job(
        dataset_uuid=HEART,
        job_type="dataset_conversion",
        parameters={"input_path": "…", "output_path": "…", "sensor_type": "TIFF"},
    )
    job = queue.get_next_job(worker_id="w1")

    assert job is not None
    assert (job.job_id, job.dataset_uuid, job.parameters["sensor_type"]) == (job_id, HEART, "TIFF")
    assert queue.get_next_job(worker_id="w1") is None


def test_a_heartbeat_takes_a_fraction_a_record_and_a_message(queue: JobQueueManager) -> None:
    create(queue)
    job = claimed(queue)

    job = queue.heartbeat(job, progress=Progress(fraction=0.2, step="level 1 of 5"))
    job = queue.heartbeat(job, progress=0.4)
    job = queue.heartbeat(job, message="two\nlines")

    assert job.progress == Progress(fraction=0.4, step="level 1 of 5", message="two lines")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("it broke", JobError(type="JobError", message="it broke")),
        (OSError("no\nroom"), JobError(type="OSError", message="no room")),
        (KeyError(), JobError(type="KeyError", message="KeyError")),
        (UnreadableSource("no TIFF"), JobError(type="UnreadableSource", message="no TIFF", permanent=True)),
        (JobError(type="TimeOut", message="60 s"), JobError(type="TimeOut", message="60 s")),
    ],
)
def test_a_failure_is_told_as_text_exception_or_record(
    queue: JobQueueManager, error: Any, expected: JobError
) -> None:
    create(queue)

    job = queue.fail_job(claimed(queue), error)

    assert job.error == expected
    assert job.status is (JobStatus.FAILED if expected.permanent else JobStatus.PENDING)


def test_a_failure_for_good_can_be_said_in_words(queue: JobQueueManager) -> None:
    create(queue)

    assert queue.fail_job(claimed(queue), "hopeless", permanent=True).status is JobStatus.FAILED


def test_pauses_between_tries_grow(queue: JobQueueManager, clock: ManualClock) -> None:
    create(queue, max_attempts=4)
    pauses = []
    for _ in range(3):
        job = queue.fail_job(claimed(queue), "again")
        pauses.append((job.run_at - clock.now()).total_seconds())
        clock.advance(pauses[-1])

    assert 3.7 < pauses[0] < 6.3
    assert pauses[0] * 2 < pauses[1] < pauses[2] / 2


@pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.get_next_job(""),
        lambda queue: queue.get_next_job("ada", wait_seconds=-1),
        lambda queue: queue.get_next_job("ada", job_types="dataset_conversion"),
        lambda queue: queue.get_next_jobs("ada", 0),
        lambda queue: queue.list_jobs(limit=0),
        lambda queue: queue.list_jobs(status="gathering"),
        lambda queue: queue.fail_job(queue.get_next_job("ada"), 7),
        lambda queue: queue.heartbeat(queue.get_next_job("ada"), progress=2),
        lambda queue: queue.complete_job(queue.get_next_job("ada"), {"a": {1, 2}}),
    ],
)
def test_a_caller_s_mistake_is_said_clearly(
    queue: JobQueueManager, call: Callable[[JobQueueManager], object]
) -> None:
    create(queue)

    with pytest.raises(InvalidParameters):
        call(queue)


def test_a_claim_waits_for_a_job_and_is_woken_by_its_creation(queue: JobQueueManager) -> None:
    threading.Timer(0.2, create, [queue]).start()
    began = time.monotonic()

    job = queue.get_next_job("ada", wait_seconds=60)

    assert job is not None
    assert time.monotonic() - began < 30


def test_a_claim_that_waits_in_vain_comes_back(queue: JobQueueManager) -> None:
    assert queue.get_next_job("ada", wait_seconds=0.3) is None


def test_completing_and_claiming_the_next_is_one_transaction(store: Store, queue: JobQueueManager) -> None:
    create(queue)
    second = create(queue)
    job = claimed(queue)

    with store.trace() as seen:
        following = queue.complete_job(job, {"a": 1}, claim_next=True)

    assert following is not None
    assert following.job_id == second
    assert [statement for statement in seen if statement.startswith(("BEGIN", "COMMIT"))] == [
        "BEGIN IMMEDIATE",
        "COMMIT",
    ]


def test_the_next_of_another_type_is_left_to_others(queue: JobQueueManager) -> None:
    create(queue)
    create(queue, LUNG, job_type="file_extraction")

    assert queue.complete_job(claimed(queue), claim_next=True, job_types=[CONVERSION]) is None


# -- fairness ------------------------------------------------------------------------------------


def test_a_low_priority_waits_at_most_twenty_minutes_behind_those_that_come_later(
    queue: JobQueueManager, clock: ManualClock
) -> None:
    low = create(queue, priority=3)
    clock.advance(19 * 60)
    earlier = create(queue, LUNG, priority=1)
    clock.advance(2 * 60)
    later = create(queue, str(uuid.uuid4()), priority=1)

    assert [claimed(queue).job_id for _ in range(3)] == [earlier, low, later]


def test_a_data_set_with_a_long_line_lets_each_other_one_in(queue: JobQueueManager, clock: ManualClock) -> None:
    long_line = [create(queue) for _ in range(20)]
    clock.advance(1)
    others = [create(queue, str(uuid.uuid4())) for _ in range(3)]
    order = []
    while job := queue.get_next_job("ada"):
        order.append(job.job_id)
        clock.advance(1)
        queue.complete_job(job)

    assert order[:4] == [long_line[0], *others]
    assert order[4:] == long_line[1:]


# -- clocks --------------------------------------------------------------------------------------


def test_a_lease_ends_with_time_and_not_with_the_wall_clock(queue: JobQueueManager, clock: ManualClock) -> None:
    create(queue)
    job = claimed(queue, "ada")

    clock.jump(+86_400)
    assert queue.get_next_job("bob") is None
    clock.jump(-2 * 86_400)
    assert queue.get_next_job("bob") is None
    clock.advance(31)
    assert queue.get_next_job("bob") is None  # it is taken back, and pauses
    clock.advance(2)

    again = claimed(queue, "bob")
    assert (again.job_id, again.worker_id, again.attempt) == (job.job_id, "bob", 2)
    with pytest.raises(LeaseLost):
        queue.complete_job(job)


def test_heartbeats_hold_a_lease_for_ever(queue: JobQueueManager, clock: ManualClock) -> None:
    create(queue)
    job = claimed(queue)

    for _ in range(20):
        clock.advance(29)
        queue.heartbeat(job)
        assert queue.get_next_job("bob") is None


def test_the_lease_is_the_manager_s(store: Store, clock: ManualClock) -> None:
    queue = JobQueueManager(store, lease_seconds=600)
    create(queue)
    claimed(queue)

    clock.advance(599)

    assert store.jobs.recover() == 0
    clock.advance(2)
    assert store.jobs.recover() == 1


def test_a_restart_of_the_machine_voids_every_lease(store: Store, queue: JobQueueManager, tmp_path: Path) -> None:
    create(queue)
    job = claimed(queue)
    connection = sqlite3.connect(tmp_path / "scientistcloud.db")
    with connection:
        connection.execute("UPDATE jobs SET boot_id = 'the boot before', beat = beat + 1e6")
    connection.close()

    store.jobs.recover()

    assert now_of(queue, job.job_id).status is JobStatus.PENDING


def test_a_job_runs_once_its_time_has_come_and_counts_from_then(queue: JobQueueManager, clock: ManualClock) -> None:
    create(queue, run_at=clock.now() + timedelta(hours=1))
    clock.advance(3599)
    assert queue.get_next_job("ada") is None

    clock.advance(1801)
    create(queue, LUNG)

    assert claimed(queue).dataset_uuid == HEART  # it was due before the other came


def test_a_million_due_at_once_would_join_in_steps(queue: JobQueueManager, clock: ManualClock) -> None:
    later = clock.now() + timedelta(hours=1)
    queue.create_jobs(
        [
            {"dataset_uuid": str(uuid.uuid4()), "job_type": CONVERSION, "parameters": {}, "run_at": later}
            for _ in range(250)
        ]
    )
    clock.advance(3601)

    queue.get_next_job("ada")
    waiting = queue.stats().waiting

    assert (waiting["time"], waiting["nothing"]) == (150, 99)
    assert len([job for n in range(300) if (job := queue.get_next_job(f"w{n}"))]) == 249


def test_many_lost_at_once_are_taken_back_in_steps(
    store: Store, queue: JobQueueManager, clock: ManualClock
) -> None:
    queue.create_jobs(
        [{"dataset_uuid": str(uuid.uuid4()), "job_type": CONVERSION, "parameters": {}} for _ in range(250)]
    )
    queue.get_next_jobs("ada", 250)
    clock.advance(31)

    queue.get_next_job("bob")

    assert queue.stats().by_status["running"] == 150
    assert store.jobs.recover() == 150


def test_a_cancel_reaches_a_worker_with_its_next_heartbeat(queue: JobQueueManager) -> None:
    job_id = create(queue)
    job = claimed(queue)

    queue.cancel_job(job_id)

    with pytest.raises(Cancelled, match="acknowledge"):
        queue.heartbeat(job)
    assert queue.acknowledge_cancel(job).status is JobStatus.CANCELLED


def test_a_retried_job_is_last_in_its_line(queue: JobQueueManager) -> None:
    first, _ = create(queue), create(queue)
    queue.cancel_job(first)

    assert queue.retry_job(first).waits_for is WaitsFor.TURN


def test_jobs_that_are_not_there(queue: JobQueueManager) -> None:
    assert queue.get_job("nobody") is None
    with pytest.raises(NotFound, match="nobody"):
        queue.cancel_job("nobody")


# -- nobody is named -----------------------------------------------------------------------------


def test_no_statement_of_the_service_names_a_person(
    store: Store, queue: JobQueueManager, clock: ManualClock
) -> None:
    dataset = kept(store, uuid=HEART)
    with store.trace() as seen:
        create(queue, idempotency_key="k")
        create(queue, idempotency_key="k", run_at=clock.now() + timedelta(seconds=5))
        store.workers.announce(ADA)
        job = claimed(queue)
        settle(store, HEART, token=job.token)
        queue.heartbeat(job, progress=0.5)
        queue.fail_job(job, "again")
        clock.advance(60)
        job = queue.complete_job(claimed(queue), {"a": 1}, claim_next=True) or job
        queue.cancel_job(create(queue, LUNG))
        settle(store, HEART)
        store.jobs.recover(dead=["eve"])
        store.jobs.adopt()
        store.jobs.prune(before=clock.now())
        store.jobs.claimable()
        queue.stats()
        queue.list_jobs(dataset_uuid=HEART, status="completed", after=job.job_id)
        store.jobs.current([HEART])
        store.jobs.changed_since(clock.now())
        store.targets.promised()
        store.targets.all()
        store.workers.all()
        store.workers.leave("ada")

    named = [
        statement
        for statement in seen
        if re.search(r"\b(user|user_id|user_email|owner|email|public|name)\b|SELECT\s+(\w+\.)?\*", statement)
        or dataset.user in statement
    ]
    assert any("visstoredatas" in statement for statement in seen)
    assert any("WHERE waits_for = 'nothing'" in statement for statement in seen)
    assert named == []


def test_the_job_record_has_no_field_for_a_person() -> None:
    assert not {"user", "user_id", "user_email", "owner", "email"} & set(Job.__dataclass_fields__)


def test_times_are_aware_utc(queue: JobQueueManager) -> None:
    create(queue)
    job = claimed(queue)

    assert {moment.tzinfo for moment in (job.created_at, job.run_at, job.started_at or job.run_at)} == {UTC}
