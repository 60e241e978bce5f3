"""What care heals: each crash between two steps, on a real database and real folders."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scientistcloud import JobQueueManager, open_store
from scientistcloud.assembly import open_forms
from scientistcloud.datasets.settling import settle_published
from scientistcloud.errors import LeaseLost
from scientistcloud.layout import CONVERTED
from scientistcloud.records import ConversionTarget, Dataset, DatasetStatus, Job, JobError, JobStatus, Wanted
from scientistcloud.service.care import ROLE, Care
from scientistcloud.settings import read_settings


class Place:
    """A database, a data folder, and the worker that takes care of both."""

    def __init__(self, root: Path, **settings: object) -> None:
        self.settings = read_settings(data_dir=root, **settings)
        self.store = open_store(self.settings.store_url)
        self.queue = JobQueueManager(self.store)
        self.forms = open_forms(root)
        self.care = self.carer("ada")

    def carer(self, worker_id: str) -> Care:
        return Care(
            self.store,
            queue=self.queue,
            forms=self.forms,
            folder=self.settings.folder,
            worker_id=worker_id,
            settings=self.settings,
        )

    def dataset(self, **fields: Any) -> str:
        now = datetime.now(UTC)
        known: dict[str, Any] = {
            "uuid": str(uuid.uuid4()),
            "user": "ada@example.org",
            "name": "heart",
            "sensor": "auto",
            "status": DatasetStatus.CONVERSION_QUEUED,
            "created_at": now,
            "updated_at": now,
            "closed_at": now,
            "revision": 1,
        }
        self.store.datasets.add(Dataset(**known | fields))
        return str((known | fields)["uuid"])

    def claimed(self, dataset_uuid: str, **more: Any) -> Job:
        """A job of the data set that a worker has just claimed."""
        self.queue.create_job(dataset_uuid=dataset_uuid, job_type="dataset_conversion", parameters={}, **more)
        job = self.queue.get_next_job("bob")
        assert job is not None
        assert job.dataset_uuid == dataset_uuid
        return job

    def publish(self, job: Job) -> dict[str, Any]:
        """The publication by the job's worker; its form."""
        output = self.forms.begin(job.dataset_uuid, job_id=job.job_id, token=job.token)
        assert output is not None
        (output / CONVERTED).write_text(job.job_id)
        form = {"path": CONVERTED, "token": job.token, "job_id": job.job_id}
        self.forms.publish(
            job.dataset_uuid,
            job_id=job.job_id,
            token=job.token,
            names=[CONVERTED],
            outcome={"result": {}, "form": form, "sensor": "TIFF"},
        )
        return form

    def target(self, dataset_uuid: str) -> ConversionTarget:
        target = self.store.targets.get(dataset_uuid)
        assert target is not None
        return target

    def shown(self, dataset_uuid: str) -> str | None:
        """The job whose form is in place."""
        path = self.settings.folder.dataset(dataset_uuid).converted
        return path.read_text() if path.exists() else None


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.store.close()


def wanted(key: str) -> Wanted:
    return Wanted(job_type="dataset_conversion", idempotency_key=key, parameters={"sensor_type": "auto"})


def test_a_promised_job_is_created_once(place: Place) -> None:
    dataset = place.dataset(wanted=wanted("convert:1"))

    place.care.round()
    place.care.round()

    (job,) = place.queue.list_jobs(dataset_uuid=dataset)
    assert (job.idempotency_key, job.parameters) == ("convert:1", {"sensor_type": "auto"})
    target = place.target(dataset)
    assert (target.wanted, target.status) == (None, DatasetStatus.CONVERSION_QUEUED)


def test_a_promise_whose_job_ended_long_ago_is_cleared(place: Place) -> None:
    dataset = place.dataset()
    first = place.claimed(dataset, idempotency_key="convert:1")
    place.queue.fail_job(first, "no good", permanent=True)
    place.queue.complete_job(place.claimed(dataset))
    before = place.target(dataset)
    place.store.targets.update(before, replace(before, wanted=wanted("convert:1")))

    place.care.round()

    target = place.target(dataset)
    assert (target.wanted, target.status) == (None, DatasetStatus.DONE)
    assert len(place.queue.list_jobs(dataset_uuid=dataset)) == 2


def test_a_promise_that_cannot_be_kept_does_not_keep_others_from_being_kept(place: Place) -> None:
    place.dataset(wanted=replace(wanted("bad"), parameters={"user_email": "ada@example.org"}))
    good = place.dataset(wanted=wanted("good"))

    place.care.round()

    assert len(place.queue.list_jobs(dataset_uuid=good)) == 1


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda queue, job: queue.complete_job(job), DatasetStatus.DONE),
        (lambda queue, job: queue.fail_job(job, "no good", permanent=True), DatasetStatus.CONVERSION_ERROR),
        (lambda queue, job: queue.release_job(job), DatasetStatus.CONVERSION_QUEUED),
        (lambda queue, job: None, DatasetStatus.CONVERTING),
    ],
)
def test_a_data_set_follows_its_job_where_the_worker_died_in_between(
    place: Place, end: Any, status: DatasetStatus
) -> None:
    dataset = place.dataset(status=DatasetStatus.UPLOADING)
    end(place.queue, place.claimed(dataset))

    place.care.round()

    assert place.target(dataset).status is status


def test_a_form_whose_job_completed_is_written_to_the_record(place: Place) -> None:
    dataset = place.dataset()
    job = place.claimed(dataset)
    form = place.publish(job)
    place.queue.complete_job(job)  # and here its worker died

    place.care.round()

    target = place.target(dataset)
    assert (target.status, target.sensor) == (DatasetStatus.DONE, "TIFF")
    assert [dict(each) for each in target.forms] == [form]
    assert place.shown(dataset) == job.job_id


def test_a_form_that_waits_for_its_attempt_to_finish_stays(place: Place) -> None:
    dataset = place.dataset()
    job = place.claimed(dataset)
    place.publish(job)
    place.store.jobs.fail(job, JobError(type="WorkerLost", message="…"), retry_after_seconds=60)

    place.care.round()

    assert place.shown(dataset) == job.job_id
    assert place.target(dataset).forms == ()


def test_a_form_of_a_running_job_stays(place: Place) -> None:
    dataset = place.dataset()
    job = place.claimed(dataset)
    place.publish(job)

    place.care.round()

    assert place.shown(dataset) == job.job_id


def test_a_form_whose_job_failed_gives_way_to_the_one_before(place: Place) -> None:
    dataset = place.dataset()
    older = place.claimed(dataset)
    place.publish(older)
    place.queue.complete_job(older)
    place.care.round()
    job = place.claimed(dataset)
    place.publish(job)
    place.queue.fail_job(job, "no good", permanent=True)

    place.care.round()

    target = place.target(dataset)
    assert (target.status, target.forms[-1]["job_id"]) == (DatasetStatus.CONVERSION_ERROR, older.job_id)
    assert place.shown(dataset) == older.job_id


def test_a_completed_form_that_no_record_names_survives_a_next_job_that_comes_to_nothing(place: Place) -> None:
    dataset = place.dataset()
    completed = place.claimed(dataset)
    place.publish(completed)
    place.queue.complete_job(completed)  # and here its worker dies
    cancelled = place.claimed(dataset)
    settle_published(place.store, place.forms, dataset, token=cancelled.token)  # as an attempt does first of all
    place.publish(cancelled)
    place.queue.cancel_job(cancelled.job_id)
    place.queue.acknowledge_cancel(cancelled)

    place.care.round()

    assert place.shown(dataset) == completed.job_id
    target = place.target(dataset)
    assert (target.status, target.forms[-1]["job_id"]) == (DatasetStatus.DONE, completed.job_id)


def test_a_worker_whose_job_the_reaper_ended_can_write_nothing_more(tmp_path: Path) -> None:
    place = Place(tmp_path)
    hasty = JobQueueManager(place.store, lease_seconds=0.001)
    dataset = place.dataset()
    place.queue.create_job(dataset_uuid=dataset, job_type="dataset_conversion", parameters={}, max_attempts=1)
    job = hasty.get_next_job("bob")
    assert job is not None
    output = place.forms.begin(dataset, job_id=job.job_id, token=job.token)
    assert output is not None
    (output / CONVERTED).write_text("late")

    while place.queue.get_job(job.job_id).status is not JobStatus.FAILED:  # type: ignore[union-attr]
        place.care.round()

    place.care.round()
    target = place.target(dataset)
    assert target.token > job.token
    with pytest.raises(LeaseLost):
        place.forms.publish(dataset, job_id=job.job_id, token=job.token, names=[CONVERTED], outcome={})
    with pytest.raises(LeaseLost):
        place.store.targets.update(target, target, token=job.token)
    assert not output.exists()
    place.store.close()


def test_a_folder_that_a_dead_attempt_left_is_removed(place: Place) -> None:
    dataset = place.dataset()
    job = place.claimed(dataset)
    output = place.forms.begin(dataset, job_id=job.job_id, token=job.token)
    assert output is not None
    place.queue.fail_job(job, "no good", permanent=True)  # and here its worker died

    place.care.round()

    assert not output.exists()


def test_old_jobs_go_with_their_logs(place: Place) -> None:
    dataset = place.dataset()
    old, newest = place.claimed(dataset), None
    place.queue.complete_job(old)
    newest = place.claimed(dataset)
    place.queue.complete_job(newest)
    logs = [place.settings.folder.log(job.job_id) for job in (old, newest)]
    logs[0].parent.mkdir()
    for log in logs:
        log.write_text("…")
    place.settings = place.settings.model_copy(
        update={"keep_jobs_days": timedelta(milliseconds=1) / timedelta(days=1)}
    )

    place.carer("ada").round()

    assert place.queue.get_job(old.job_id) is None
    assert place.queue.get_job(newest.job_id) is not None  # never a data set's newest
    assert [log.exists() for log in logs] == [False, True]


def test_jobs_beyond_the_number_to_keep_go_with_their_logs_the_oldest_first(tmp_path: Path) -> None:
    place = Place(tmp_path, keep_jobs=2)
    dataset = place.dataset()
    ended = []
    for _ in range(4):
        job = place.claimed(dataset)
        place.queue.complete_job(job)
        log = place.settings.folder.log(job.job_id)
        log.parent.mkdir(exist_ok=True)
        log.write_text("all is well")
        ended.append(job.job_id)

    place.care.round()

    assert [job.job_id for job in place.queue.list_jobs()] == ended[2:]
    assert [place.settings.folder.log(job_id).exists() for job_id in ended] == [False, False, True, True]
    place.store.close()


def test_one_worker_takes_care_at_a_time_and_hands_over_when_it_leaves(place: Place) -> None:
    dataset = place.dataset(status=DatasetStatus.UPLOADING)
    place.care.round()
    place.claimed(dataset)
    other = place.carer("cyd")

    other.round()
    assert place.target(dataset).status is DatasetStatus.UPLOADING

    place.care.leave()
    other.round()
    assert place.target(dataset).status is DatasetStatus.CONVERTING
    assert not place.store.meta.hold(ROLE, "ada", seconds=1)


def test_two_that_take_care_at_once_do_no_harm(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(place.store.meta), "hold", lambda *_, **__: True)  # both were elected
    promised = [place.dataset(wanted=wanted(f"convert:{n}")) for n in range(15)]
    failed = [place.dataset() for _ in range(15)]
    for dataset in failed:
        place.queue.fail_job(place.claimed(dataset, priority=1), "no good", permanent=True)
    others = [place.carer(f"worker-{n}") for n in range(2)]

    threads = [threading.Thread(target=care.round) for care in (place.care, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    place.care.round()  # who was overtaken while it looked leaves that to the next round

    assert [len(place.queue.list_jobs(dataset_uuid=dataset)) for dataset in promised] == [1] * 15
    assert {place.target(dataset).status for dataset in promised} == {DatasetStatus.CONVERSION_QUEUED}
    assert {place.target(dataset).status for dataset in failed} == {DatasetStatus.CONVERSION_ERROR}


def test_a_data_set_that_is_gone_is_no_reason_to_stop(place: Place) -> None:
    gone = str(uuid.uuid4())
    place.queue.create_job(dataset_uuid=gone, job_type="dataset_conversion", parameters={})
    dataset = place.dataset(status=DatasetStatus.UPLOADING)
    place.queue.create_job(dataset_uuid=dataset, job_type="dataset_conversion", parameters={})

    place.care.round()

    assert place.target(dataset).status is DatasetStatus.CONVERSION_QUEUED
