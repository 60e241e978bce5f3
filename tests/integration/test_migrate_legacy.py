"""`scientistcloud migrate-legacy`: what the older system left becomes ours, once and for all."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import records_at_hand
from scientistcloud import JobQueueManager, open_store
from scientistcloud.cli import main
from scientistcloud.cli.verify import verify
from scientistcloud.datasets.legacy import JOB_STATUSES, STATUSES, dataset_of, job_of
from scientistcloud.datasets.migrating import migrate
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetStatus, JobStatus, Wanted

ADA = "ada@example.org"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
Insert = Callable[..., str]


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = open_store(database_url)
    yield opened
    opened.close()


@pytest.fixture
def insert(store: Store) -> Insert:
    """Insert a record as another client would, with these fields alone; its uuid or job id."""

    def insert(collection: str, **fields: Any) -> str:
        key = "uuid" if collection == "visstoredatas" else "job_id"
        fields = {key: str(uuid.uuid4())} | fields
        if collection == "visstoredatas":
            fields = {"name": "scan", "sensor": "TIFF"} | fields
        records_at_hand.insert(store.url, collection, **fields)
        return str(fields[key])

    return insert


def found(store: Store, dataset_uuid: str) -> Dataset:
    dataset = store.datasets.get(dataset_uuid)
    assert dataset is not None
    return dataset


# -- what becomes of what ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "ours"),
    [
        ("completed", "done"),
        ("success", "done"),
        ("Done", "done"),
        ("conversion failed", "conversion error"),
        ("CONVERSION_FAILED", "conversion error"),
        ("compression error", "conversion error"),
        ("sync queued", "upload queued"),
        ("syncing", "uploading"),
        ("zipping", "conversion queued"),
        ("retrying", "conversion queued"),
        ("conversion-queued", "conversion queued"),
        ("unzip error", "unzip error"),
        ("canceled", "cancelled"),
        ("gathering wool", "conversion error"),
        ("", "conversion error"),
    ],
)
def test_a_status_of_the_older_system_becomes_one_of_ours(older: str, ours: str) -> None:
    became = dataset_of({"uuid": "u", "user_id": ADA, "status": older}, now=NOON)

    assert became is not None
    assert became.dataset.status == ours
    assert (became.dataset.error is not None) == ours.endswith("error")


def test_each_spelling_stands_for_one_status_and_none_is_ours() -> None:
    spellings = [spelling for some in STATUSES.values() for spelling in some]

    assert len(set(spellings)) == len(spellings)
    assert not set(spellings) & set(DatasetStatus)
    assert not {spelling for some in JOB_STATUSES.values() for spelling in some} & set(JobStatus)


def test_an_older_data_set_keeps_what_it_says() -> None:
    became = dataset_of(
        {
            "uuid": "u",
            "user_email": ADA,
            "status": "completed",
            "name": "heart",
            "sensor": "MAPIR",
            "tags": "a, b",
            "is_public": "true",
            "created_at": "2020-02-03T04:05:06",
            "size_bytes": 12.0,
        },
        now=NOON,
    )

    assert became is not None
    dataset = became.dataset
    assert (dataset.user, dataset.name, dataset.sensor, dataset.tags) == (ADA, "heart", "MAPIR", ("a", "b"))
    assert (dataset.public, dataset.size_bytes, dataset.revision) == (True, 12, 1)
    assert dataset.created_at == dataset.closed_at == datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert became.drop == ("user_email",)


def test_a_person_goes_from_a_job_at_every_depth() -> None:
    became = job_of(
        {
            "job_id": "j",
            "user_email": ADA,
            "status": "retrying",
            "parameters": {"input_path": "a", "by": [{"User_ID": ADA, "n": 1}], "owner": {"x": 1}},
        }
    )

    assert became is not None
    assert became.parameters == {"input_path": "a", "by": [{"n": 1}]}
    assert (became.status, became.drop) == (JobStatus.PENDING, ("user_email",))


# -- on a database -------------------------------------------------------------------------------


def test_older_records_become_ours_and_work_as_ours_do(store: Store, insert: Insert) -> None:
    done = insert("visstoredatas", user_id=ADA, status="completed")
    waits = insert("visstoredatas", user_id=ADA, status="conversion queued")
    has_a_job = insert("visstoredatas", user_id=ADA, status="retrying")
    older_job = insert(
        "jobs",
        dataset_uuid=has_a_job,
        job_type="dataset_conversion",
        status="retrying",
        parameters={"input_path": "a", "user_email": ADA},
    )

    steps = list(migrate(store, dry_run=False))

    assert [step.trouble for step in steps] == [None] * 4
    assert {each.uuid: str(each.status) for each in store.datasets.find(user=ADA)} == {
        done: "done",
        waits: "conversion queued",
        has_a_job: "conversion queued",
    }
    jobs = {job.dataset_uuid: job for job in store.jobs.find()}
    assert jobs.keys() == {waits, has_a_job}
    assert (jobs[has_a_job].job_id, jobs[has_a_job].parameters) == (older_job, {"input_path": "a"})
    assert jobs[waits].parameters["input_path"] == f"datasets/{waits}/source"
    assert all(check.holds for check in verify(store)), verify(store)


def test_doing_it_twice_changes_nothing_more(store: Store, insert: Insert) -> None:
    for status in ("completed", "syncing", "zipping", "conversion failed", "uploading", "unheard of"):
        insert("visstoredatas", user_id=ADA, status=status)
    insert("jobs", dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={"email": "x"})
    list(migrate(store, dry_run=False))
    before = [*store.older.datasets(), *store.older.jobs()]

    assert list(migrate(store, dry_run=False)) == []

    assert [*store.older.datasets(), *store.older.jobs()] == before


def test_a_dry_run_says_the_same_and_writes_nothing(store: Store, insert: Insert) -> None:
    insert("visstoredatas", user_id=ADA, status="conversion queued")
    insert("visstoredatas", user_id=ADA, status="success")
    has_a_job = insert("visstoredatas", user_id=ADA, status="conversion queued")
    insert("jobs", dataset_uuid=has_a_job, job_type="dataset_conversion", parameters={"user": "x"})
    before = [*store.older.datasets(), *store.older.jobs()]

    said = list(migrate(store, dry_run=True))

    assert [*store.older.datasets(), *store.older.jobs()] == before
    assert said == list(migrate(store, dry_run=False))


def test_ours_are_left_alone(store: Store) -> None:
    now = store.clock.now()
    queue = JobQueueManager(store)
    for status in DatasetStatus:
        dataset = Dataset(
            uuid=str(uuid.uuid4()),
            user=ADA,
            name="ours",
            sensor="auto",
            status=status,
            revision=1,
            closed_at=now,
            created_at=now,
            updated_at=now,
        )
        store.datasets.add(dataset)
        if status in (DatasetStatus.CONVERSION_QUEUED, DatasetStatus.CONVERTING):
            queue.create_job(dataset_uuid=dataset.uuid, job_type="dataset_conversion", parameters={})

    assert list(migrate(store, dry_run=False)) == []


def test_one_of_ours_that_waits_for_a_job_nobody_made_gets_one(store: Store) -> None:
    now = store.clock.now()
    stuck = Dataset(
        uuid=str(uuid.uuid4()),
        user=ADA,
        name="stuck",
        sensor="auto",
        status=DatasetStatus.CONVERTING,
        revision=2,
        closed_at=now,
        created_at=now,
        updated_at=now,
    )
    store.datasets.add(stuck)

    (step,) = migrate(store, dry_run=False)

    assert step.changes == ("a conversion is queued, for it has no job",)
    (job,) = store.jobs.find()
    assert job.idempotency_key == f"convert:{stuck.uuid}:2"
    assert found(store, stuck.uuid).status is DatasetStatus.CONVERSION_QUEUED
    assert found(store, stuck.uuid).wanted is None


def test_a_record_that_cannot_be_taken_over_is_named_and_the_others_are(store: Store, insert: Insert) -> None:
    insert("visstoredatas", uuid="heart-1", user_id=ADA, status="completed")
    good = insert("visstoredatas", user_id=ADA, status="completed")

    steps = {step.what: step.trouble for step in migrate(store, dry_run=False)}

    assert "uuid" in str(steps["data set heart-1"])
    assert steps[f"data set {good}"] is None
    assert found(store, good).user == ADA


def test_the_command_says_what_it_did_a_line_a_record(
    store: Store, insert: Insert, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_DATABASE_URL", store.url)
    older = insert("visstoredatas", user_id=ADA, status="completed")

    def run(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["scientistcloud", "migrate-legacy", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capsys.readouterr())

    changes = "status 'completed' becomes 'done'; user_id becomes user; the fields that it lacks are added"
    line = f"data set {older}: {changes}\n"
    assert run("--dry-run") == (0, line, "1 records would be changed\n")
    assert run() == (0, line, "1 records changed\n")
    assert run() == (0, "", "0 records changed\n")


def test_a_conversion_that_is_promised_is_left_to_care(store: Store) -> None:
    now = store.clock.now()
    wanted = Wanted(job_type="dataset_conversion", idempotency_key="convert:again:click", parameters={})
    promised = Dataset(
        uuid=str(uuid.uuid4()),
        user=ADA,
        name="promised",
        sensor="auto",
        status=DatasetStatus.CONVERSION_QUEUED,
        revision=1,
        wanted=wanted,
        closed_at=now,
        created_at=now,
        updated_at=now,
    )
    store.datasets.add(promised)

    assert list(migrate(store, dry_run=False)) == []
    assert store.jobs.find() == []
    assert found(store, promised.uuid).wanted == wanted
