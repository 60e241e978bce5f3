"""The three checks of the architecture of record, as tests, and `scientistcloud verify` that runs them live."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from records_at_hand import overwrite, records
from scientistcloud import JobQueueManager, open_store
from scientistcloud.cli.verify import verify
from scientistcloud.datasets.settling import settle
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetStatus

PERSONS = ("ada@example.org", "bob@example.org", "user_email", "owner")
CANARY_USER = "canary-ada@verify.invalid"
PARAMETERS = {"input_path": "in", "output_path": "out", "sensor_type": "TIFF"}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = open_store(database_url)
    yield opened
    opened.close()


def a_dataset(
    store: Store,
    user: str,
    status: DatasetStatus = DatasetStatus.CONVERSION_QUEUED,
    *,
    created_at: datetime | None = None,
) -> str:
    now = created_at or datetime.now(UTC)
    dataset = Dataset(
        uuid=str(uuid.uuid4()),
        user=user,
        name="cells",
        sensor="TIFF",
        status=status,
        closed_at=now,
        created_at=now,
        updated_at=now,
    )
    store.datasets.add(dataset)
    return dataset.uuid


def a_job(store: Store, dataset_uuid: str, *, job_type: str = "dataset_conversion") -> str:
    return JobQueueManager(store).create_job(dataset_uuid=dataset_uuid, job_type=job_type, parameters=PARAMETERS)


def test_check_1_a_created_job_has_the_dataset_uuid_and_no_person(store: Store, database_url: str) -> None:
    dataset_uuid = a_dataset(store, "ada@example.org")

    with store.trace() as sent:
        job_id = a_job(store, dataset_uuid)

    (document,) = records(database_url, "jobs")
    assert (document["job_id"], document["dataset_uuid"], document["status"]) == (job_id, dataset_uuid, "pending")
    assert not set(document.keys()) & {"user", "user_id", "user_email", "owner", "email"}
    assert sent
    assert not [statement for statement in sent if any(person in statement for person in PERSONS)]


def test_check_2_any_worker_gets_the_jobs_of_all_users_without_a_filter_for_one(store: Store) -> None:
    datasets = {a_dataset(store, user) for user in ("ada@example.org", "bob@example.org", "eve@example.org")}
    for dataset_uuid in datasets:
        a_job(store, dataset_uuid)
    queue = JobQueueManager(store)

    with store.trace() as sent:
        claimed = [queue.get_next_job("w1") for _ in range(4)]

    assert {job.dataset_uuid for job in claimed if job} == datasets
    assert claimed[3] is None
    assert any("pending" in statement or "waits_for" in statement for statement in sent)
    assert not [statement for statement in sent if any(person in statement for person in PERSONS)]


def test_check_3_a_data_set_is_updated_by_uuid_and_no_other_is_touched(store: Store) -> None:
    ada, other = a_dataset(store, "ada@example.org"), a_dataset(store, "ada@example.org")
    before = store.datasets.get(other)
    a_job(store, ada)
    job = JobQueueManager(store).get_next_job("w1")
    assert job is not None

    with store.trace() as sent:
        settle(store, ada, token=job.token)

    updates = [text for text in sent if re.match(r"\s*(UPDATE|findAndModify) visstoredatas", text)]
    assert updates
    assert all(re.search(rf"\buuid\W+{ada}", text) for text in updates)
    assert not [text for text in sent if any(person in text for person in PERSONS)]
    converting = store.datasets.get(ada)
    assert converting is not None
    assert converting.status is DatasetStatus.CONVERTING
    assert store.datasets.get(other) == before


def test_verify_holds_on_a_sound_database_and_leaves_nothing_behind(store: Store) -> None:
    a_job(store, a_dataset(store, "ada@example.org"))
    jobs, stats = store.jobs.find(), store.jobs.stats()

    checks = verify(store)

    assert [check.findings for check in checks] == [(), (), ()]
    assert all(check.statements for check in checks)
    assert store.jobs.find() == jobs
    assert store.jobs.stats().by_status == stats.by_status
    assert store.jobs.stats().types.keys() == stats.types.keys() == {"dataset_conversion"}
    assert store.datasets.counts(user=CANARY_USER) == {}


def test_verify_removes_what_one_that_was_killed_left_and_not_what_another_is_at(store: Store) -> None:
    long_ago = a_dataset(store, CANARY_USER, created_at=datetime.now(UTC) - timedelta(days=1))
    just_now = a_dataset(store, CANARY_USER)
    for dataset_uuid in (long_ago, just_now):
        a_job(store, dataset_uuid, job_type="verify_canary")
    assert store.jobs.stats().types["verify_canary"].pending == 2

    verify(store)

    assert store.datasets.get(long_ago) is None
    assert store.jobs.find(dataset_uuid=long_ago) == []
    assert store.datasets.get(just_now) is not None


def test_verify_finds_a_job_that_another_client_gave_a_person(store: Store, database_url: str) -> None:
    job_id = a_job(store, a_dataset(store, "ada@example.org"))
    overwrite(database_url, "jobs", parameters={"deep": [{"user_email": "ada@example.org"}]})

    checks = verify(store)

    assert checks[0].findings == (f"job {job_id} carries 'user_email' in its parameters",)


def test_verify_finds_a_due_head_that_no_claim_would_see(store: Store, database_url: str) -> None:
    job_id = a_job(store, a_dataset(store, "ada@example.org"))
    overwrite(database_url, "jobs", waits_for="turn")  # a head that waits for its own turn

    checks = verify(store)

    assert [job_id in finding for finding in checks[1].findings] == [True]


def test_verify_finds_a_status_that_its_jobs_do_not_give(store: Store) -> None:
    dataset_uuid = a_dataset(store, "ada@example.org")
    a_job(store, dataset_uuid)
    target = store.targets.get(dataset_uuid)
    assert target is not None
    store.targets.update(target, replace(target, status=DatasetStatus.DONE))

    checks = verify(store)

    assert checks[2].findings == (f"data set {dataset_uuid} says done, its jobs say conversion queued",)


def test_a_worker_that_names_no_type_never_gets_a_canary(store: Store) -> None:
    queue = JobQueueManager(store)
    queue.create_job(dataset_uuid=a_dataset(store, "ada@example.org"), job_type="verify_canary", parameters={})

    assert queue.get_next_job("w1") is None
    assert queue.get_next_job("verify", job_types=["verify_canary"]) is not None
