"""From complete uploads to one conversion job, whatever is repeated or cut short on the way."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from scientistcloud.assembly import open_store
from scientistcloud.datasets.settling import settle
from scientistcloud.errors import InvalidParameters, InvalidTransition, NotFound
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.logs import taken_apart
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetStatus, Job
from scientistcloud.uploads import importing
from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.processor import UploadProcessor
from scientistcloud.uploads.record import Upload

ADA = "ada@example.org"
BYTES = b"the bytes of a scan"


class Clock:
    """The system's clock, moved ahead at will."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return self.now().timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}", clock=clock)
    yield store
    store.close()


def a_processor(store: Store, tmp_path: Path) -> UploadProcessor:
    return UploadProcessor(store, data_dir=tmp_path, limits=Limits(disk_reserve_bytes=0))


@pytest.fixture
def processor(store: Store, tmp_path: Path) -> UploadProcessor:
    return a_processor(store, tmp_path)


def sent(processor: UploadProcessor, upload: Upload, content: bytes = BYTES) -> None:
    writing = processor.uploads.write(upload.upload_id)
    try:
        writing.write([content])
        writing.checkpoint()
    finally:
        writing.close()


def opened(
    processor: UploadProcessor, path: str = "scan.tif", *, dataset: Dataset | None = None, content: bytes = BYTES
) -> Upload:
    return processor.open_upload(user=ADA, path=path, length_bytes=len(content), dataset=dataset)


def jobs(store: Store, dataset_uuid: str) -> list[Job]:
    return store.jobs.find(dataset_uuid=dataset_uuid)


def record(store: Store, dataset_uuid: str) -> Dataset:
    dataset = store.datasets.get(dataset_uuid)
    assert dataset is not None
    return dataset


def an_open_dataset(processor: UploadProcessor) -> Dataset:
    from scientistcloud.datasets import catalogue

    return catalogue.open_dataset(processor.store, user=ADA, name="several files")


# -- one upload ----------------------------------------------------------------------------------


def test_an_upload_becomes_a_data_set_with_its_file_and_one_conversion_job(
    processor: UploadProcessor, store: Store, tmp_path: Path
) -> None:
    upload = opened(processor, "day 1/scan.tif")
    assert record(store, upload.dataset_uuid).status is DatasetStatus.UPLOADING

    sent(processor, upload)
    processor.complete(upload.upload_id)

    dataset = record(store, upload.dataset_uuid)
    assert (dataset.status, dataset.name, dataset.user) == (DatasetStatus.CONVERSION_QUEUED, "scan.tif", ADA)
    assert (dataset.size_bytes, dataset.revision, dataset.closed_at is not None) == (len(BYTES), 1, True)
    [job] = jobs(store, dataset.uuid)
    assert job.job_type == "dataset_conversion"
    assert job.idempotency_key == f"convert:{dataset.uuid}:1"
    assert job.parameters == {
        "input_path": f"datasets/{dataset.uuid}/source",
        "output_path": f"datasets/{dataset.uuid}/converted.ome.zarr",
        "sensor_type": "auto",
    }
    assert (tmp_path / "datasets" / dataset.uuid / "source" / "day 1" / "scan.tif").read_bytes() == BYTES
    [file] = store.datasets.files(dataset.uuid)
    assert (file.path, file.sha256) == ("day 1/scan.tif", hashlib.sha256(BYTES).hexdigest())
    assert list(processor.uploads.unfinished()) == []


@pytest.mark.parametrize("by", ["the last upload", "a close", "convert again"])
def test_the_record_promises_the_job_before_it_exists(
    processor: UploadProcessor, store: Store, tmp_path: Path, by: str
) -> None:
    (tmp_path / "a.tif").write_bytes(BYTES)
    act: Callable[[], object]
    if by == "the last upload":
        upload = opened(processor)
        sent(processor, upload)
        act = partial(processor.complete, upload.upload_id)
    elif by == "a close":
        dataset = an_open_dataset(processor)
        upload = opened(processor, dataset=dataset)
        sent(processor, upload)
        processor.complete(upload.upload_id)
        act = partial(processor.close, dataset.uuid)
    else:
        done = processor.ingest([tmp_path / "a.tif"], user=ADA, name="a", convert=False)
        act = partial(processor.convert_again, done.uuid, request="x")

    with store.trace() as seen:
        act()

    promised = [n for n, said in enumerate(seen) if "UPDATE visstoredatas" in said and "conversion queued" in said]
    created = [n for n, said in enumerate(seen) if "INSERT INTO jobs" in said]
    assert len(created) == 1
    # The other way round, a fast worker's `converting` would be overwritten.
    assert promised
    assert promised[0] < created[0]


def test_completing_again_changes_nothing(processor: UploadProcessor, store: Store) -> None:
    upload = opened(processor)
    sent(processor, upload)

    for _ in range(3):
        assert processor.complete(upload.upload_id).dataset_uuid == upload.dataset_uuid

    assert len(jobs(store, upload.dataset_uuid)) == 1


def test_an_upload_that_lacks_bytes_is_not_taken_in(processor: UploadProcessor, store: Store) -> None:
    upload = opened(processor)
    sent(processor, upload, BYTES[:-1])

    with pytest.raises(InvalidTransition, match="18 of 19 bytes; send the rest"):
        processor.complete(upload.upload_id)
    assert jobs(store, upload.dataset_uuid) == []


def test_where_the_record_cannot_be_written_no_folder_stays(processor: UploadProcessor) -> None:
    with pytest.raises(InvalidParameters, match="the name"):
        processor.open_upload(user=ADA, path="a.tif", length_bytes=1, name=" \t ")

    assert list(processor.uploads.unfinished()) == []


def test_cancelling_an_upload_removes_it_with_the_data_set_it_opened(
    processor: UploadProcessor, store: Store
) -> None:
    upload = opened(processor)
    sent(processor, upload, BYTES[:5])

    processor.cancel(upload.upload_id)

    assert list(processor.uploads.unfinished()) == []
    assert store.datasets.find(user=ADA) == []
    with pytest.raises(NotFound):
        processor.cancel(upload.upload_id)


# -- several files -------------------------------------------------------------------------------


def test_a_data_set_of_several_files_is_converted_once_at_its_close(
    processor: UploadProcessor, store: Store
) -> None:
    dataset = an_open_dataset(processor)
    for path in ("a.tif", "sub/b.tif"):
        upload = opened(processor, path, dataset=dataset)
        sent(processor, upload)
        processor.complete(upload.upload_id)
    assert jobs(store, dataset.uuid) == []

    closed = [processor.close(dataset.uuid) for _ in range(2)]

    assert [each.revision for each in closed] == [1, 1]
    assert len(jobs(store, dataset.uuid)) == 1
    assert [file.path for file in store.datasets.files(dataset.uuid)] == ["a.tif", "sub/b.tif"]


def test_a_data_set_is_not_closed_while_files_are_on_their_way(processor: UploadProcessor) -> None:
    dataset = an_open_dataset(processor)
    with pytest.raises(InvalidTransition, match="has no file yet"):
        processor.close(dataset.uuid)

    upload = opened(processor, dataset=dataset)
    with pytest.raises(InvalidTransition, match="are still on their way"):
        processor.close(dataset.uuid)
    sent(processor, upload)

    assert processor.close(dataset.uuid).closed_at is not None  # which takes in what is complete


def test_a_closed_data_set_takes_no_file_until_it_is_opened_again(processor: UploadProcessor, store: Store) -> None:
    dataset = an_open_dataset(processor)
    early, late = opened(processor, "a.tif", dataset=dataset), opened(processor, "b.tif", dataset=dataset)
    sent(processor, early)
    processor.complete(early.upload_id)
    sent(processor, late)
    from scientistcloud.datasets import catalogue

    catalogue.close(store, dataset.uuid)  # by another process, just before the late file is taken in

    with pytest.raises(InvalidTransition, match="open it again to add files"):
        processor.complete(late.upload_id)
    with pytest.raises(InvalidTransition, match="open it again to add files"):
        opened(processor, "c.tif", dataset=record(store, dataset.uuid))
    processor.reopen(dataset.uuid)
    processor.complete(late.upload_id)
    assert processor.close(dataset.uuid).revision == 2
    assert [file.path for file in store.datasets.files(dataset.uuid)] == ["a.tif", "b.tif"]


def a_closed_dataset(processor: UploadProcessor) -> Dataset:
    dataset = an_open_dataset(processor)
    upload = opened(processor, dataset=dataset)
    sent(processor, upload)
    processor.complete(upload.upload_id)
    return processor.close(dataset.uuid)


def test_opening_again_calls_off_the_conversion_that_waits(processor: UploadProcessor, store: Store) -> None:
    uuid = a_closed_dataset(processor).uuid

    assert processor.reopen(uuid).status is DatasetStatus.UPLOADING
    processor.reopen(uuid)
    assert JobQueueManager(store).get_next_job("ada") is None
    processor.close(uuid)

    jobs = [(job.idempotency_key, job.status) for job in store.jobs.find(dataset_uuid=uuid)]
    assert jobs == [(f"convert:{uuid}:1", "cancelled"), (f"convert:{uuid}:2", "pending")]
    assert record(store, uuid).status is DatasetStatus.CONVERSION_QUEUED


def test_a_conversion_that_began_just_before_its_data_set_was_opened_again_leaves_it_open(
    processor: UploadProcessor, store: Store
) -> None:
    queue, uuid = JobQueueManager(store), a_closed_dataset(processor).uuid
    job = queue.get_next_job("ada")
    assert job is not None
    processor.reopen(uuid)  # before the worker has written that it works
    settle(store, uuid)
    assert record(store, uuid).status is DatasetStatus.CONVERTING

    queue.complete_job(job)
    settle(store, uuid)

    assert (record(store, uuid).status, record(store, uuid).closed_at) == (DatasetStatus.UPLOADING, None)
    assert processor.close(uuid).revision == 2
    assert [each.idempotency_key for each in store.jobs.find(dataset_uuid=uuid)] == [
        f"convert:{uuid}:1",
        f"convert:{uuid}:2",
    ]


def test_closing_without_conversion_makes_no_job(processor: UploadProcessor, store: Store) -> None:
    dataset = an_open_dataset(processor)
    upload = opened(processor, dataset=dataset)
    sent(processor, upload)
    processor.complete(upload.upload_id)

    closed = processor.close(dataset.uuid, convert=False)

    assert closed.status is DatasetStatus.DONE
    assert jobs(store, dataset.uuid) == []


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a/b", "a/b/c")])
def test_a_file_and_a_folder_of_one_name_are_refused_when_the_upload_is_opened(
    processor: UploadProcessor, first: str, second: str
) -> None:
    dataset = an_open_dataset(processor)
    upload = opened(processor, first, dataset=dataset)
    sent(processor, upload)
    processor.complete(upload.upload_id)

    with pytest.raises(InvalidParameters, match="that name as a folder"):
        opened(processor, second, dataset=dataset)


def test_a_file_and_a_folder_of_one_name_sent_at_once_give_one_of_them_up(
    processor: UploadProcessor, store: Store
) -> None:
    dataset = an_open_dataset(processor)
    uploads = [opened(processor, path, dataset=dataset) for path in ("a", "a/b")]
    for upload in uploads:
        sent(processor, upload)
    processor.complete(uploads[0].upload_id)

    with pytest.raises(InvalidTransition, match="rename one of them"):
        processor.complete(uploads[1].upload_id)

    assert list(processor.uploads.unfinished()) == []
    assert [file.path for file in store.datasets.files(dataset.uuid)] == ["a"]


def test_a_file_sent_again_under_its_name_replaces_the_first(
    processor: UploadProcessor, store: Store, tmp_path: Path
) -> None:
    dataset = an_open_dataset(processor)
    for content in (b"first", b"the second"):
        upload = opened(processor, "a.tif", dataset=dataset, content=content)
        sent(processor, upload, content)
        processor.complete(upload.upload_id)

    [file] = store.datasets.files(dataset.uuid)
    assert file.size_bytes == record(store, dataset.uuid).size_bytes == len(b"the second")
    assert (tmp_path / "datasets" / dataset.uuid / "source" / "a.tif").read_bytes() == b"the second"


def test_a_file_begun_anew_ends_the_upload_that_its_sender_lost(processor: UploadProcessor) -> None:
    dataset = an_open_dataset(processor)
    lost = opened(processor, "a.tif", dataset=dataset)
    other = opened(processor, "b.tif", dataset=dataset)

    again = opened(processor, "a.tif", dataset=dataset)

    assert processor.uploads.get(lost.upload_id) is None
    assert {each.upload_id for each in processor.uploads.unfinished()} == {other.upload_id, again.upload_id}


def test_files_of_this_machine_are_taken_in_by_the_same_steps(
    processor: UploadProcessor, store: Store, tmp_path: Path
) -> None:
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_bytes(BYTES)

    dataset = processor.ingest([tmp_path / "a.tif", tmp_path / "b.tif"], user=ADA, name="two", sensor="TIFF")

    [job] = jobs(store, dataset.uuid)
    assert job.parameters["sensor_type"] == "TIFF"
    assert [file.sha256 for file in store.datasets.files(dataset.uuid)] == [hashlib.sha256(BYTES).hexdigest()] * 2
    assert (tmp_path / "a.tif").read_bytes() == BYTES


# -- convert again -------------------------------------------------------------------------------


def test_converting_again_makes_one_job_a_request(processor: UploadProcessor, store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(BYTES)
    dataset = processor.ingest([tmp_path / "a.tif"], user=ADA, name="a")

    once, twice, other = (
        processor.convert_again(dataset.uuid, request=request, sensor="TIFF") for request in ("x", "x", "y")
    )

    assert once == twice != other
    assert [job.idempotency_key for job in jobs(store, dataset.uuid)] == [
        f"convert:{dataset.uuid}:1",
        f"convert:{dataset.uuid}:1:x",
        f"convert:{dataset.uuid}:1:y",
    ]
    assert jobs(store, dataset.uuid)[-1].parameters["sensor_type"] == "TIFF"


def test_an_open_data_set_is_not_converted_again(processor: UploadProcessor) -> None:
    with pytest.raises(InvalidTransition, match="still open; close it"):
        processor.convert_again(an_open_dataset(processor).uuid, request="x")


# -- what happens by itself ----------------------------------------------------------------------


def test_an_expired_upload_goes_and_its_empty_data_set_with_it(
    processor: UploadProcessor, store: Store, clock: Clock
) -> None:
    upload = opened(processor)
    sent(processor, upload, BYTES[:5])
    clock.ahead = timedelta(days=6)
    processor.tend()
    assert processor.uploads.get(upload.upload_id) is not None

    clock.ahead = timedelta(days=8)
    processor.tend()

    assert processor.uploads.get(upload.upload_id) is None
    assert store.datasets.find(user=ADA) == []
    dataset = record(store, upload.dataset_uuid)
    assert dataset.status is DatasetStatus.UPLOAD_ERROR
    assert "expired after 7 days; send it again" in (dataset.error or "")


def test_a_data_set_with_files_says_that_one_expired_and_goes_on_when_it_is_sent_again(
    processor: UploadProcessor, store: Store, clock: Clock
) -> None:
    dataset = an_open_dataset(processor)
    whole = opened(processor, "a.tif", dataset=dataset)
    sent(processor, whole)
    processor.complete(whole.upload_id)
    opened(processor, "b.tif", dataset=dataset)
    clock.ahead = timedelta(days=8)

    processor.tend()

    [left] = store.datasets.find(user=ADA)
    assert left.status is DatasetStatus.UPLOAD_ERROR
    opened(processor, "b.tif", dataset=left)
    assert record(store, dataset.uuid).status is DatasetStatus.UPLOADING


def test_an_upload_that_somebody_writes_does_not_expire_under_them(
    processor: UploadProcessor, clock: Clock
) -> None:
    upload = opened(processor)
    clock.ahead = timedelta(days=8)
    with processor.uploads.held(upload.upload_id):
        processor.tend()

    assert processor.uploads.get(upload.upload_id) is not None


def test_an_upload_whose_opening_died_before_its_record_is_removed(
    processor: UploadProcessor, clock: Clock
) -> None:
    orphan = processor.uploads.create(
        dataset_uuid="f9f9c8d4-0000-4000-8000-000000000000",
        user=ADA,
        path="a.tif",
        length_bytes=5,
        metadata="",
        closes=True,
    )
    processor.tend()
    assert processor.uploads.get(orphan.upload_id) is not None  # its opening may be about to write it

    clock.ahead = timedelta(hours=2)
    processor.tend()

    assert processor.uploads.get(orphan.upload_id) is None


def test_a_digest_lost_with_a_restart_comes_behind_the_job(
    processor: UploadProcessor, store: Store, tmp_path: Path
) -> None:
    upload = opened(processor)
    sent(processor, upload, BYTES[:5])
    restarted = a_processor(store, tmp_path)
    sent(restarted, upload, BYTES[5:])

    restarted.complete(upload.upload_id)
    assert len(jobs(store, upload.dataset_uuid)) == 1
    assert store.datasets.files(upload.dataset_uuid)[0].sha256 is None
    restarted.digest(upload.upload_id)

    assert store.datasets.files(upload.dataset_uuid)[0].sha256 == hashlib.sha256(BYTES).hexdigest()
    assert list(restarted.uploads.unfinished()) == []
    assert len(jobs(store, upload.dataset_uuid)) == 1


def test_a_portal_that_stops_leaves_the_digest_to_its_next_start(
    processor: UploadProcessor, store: Store, tmp_path: Path
) -> None:
    upload = opened(processor)
    sent(processor, upload, BYTES[:5])
    restarted = a_processor(store, tmp_path)
    sent(restarted, upload, BYTES[5:])
    restarted.stop()

    restarted.recover()
    assert store.datasets.files(upload.dataset_uuid)[0].sha256 is None
    a_processor(store, tmp_path).recover()

    assert store.datasets.files(upload.dataset_uuid)[0].sha256 == hashlib.sha256(BYTES).hexdigest()


def test_a_replay_does_not_close_what_somebody_opened_again(
    processor: UploadProcessor, store: Store, tmp_path: Path
) -> None:
    upload = opened(processor)
    sent(processor, upload, BYTES[:5])
    restarted = a_processor(store, tmp_path)  # so the digest is missing, and the folder stays for it
    sent(restarted, upload, BYTES[5:])
    restarted.complete(upload.upload_id)
    restarted.reopen(upload.dataset_uuid)

    restarted.recover()

    assert record(store, upload.dataset_uuid).closed_at is None
    assert list(restarted.uploads.unfinished()) == []


def test_an_upload_into_a_deleted_data_set_is_dropped(
    processor: UploadProcessor, store: Store, clock: Clock
) -> None:
    from dataclasses import replace

    upload = opened(processor)
    sent(processor, upload)
    dataset = record(store, upload.dataset_uuid)
    store.datasets.update(dataset, replace(dataset, deleted_at=clock.now()))

    with pytest.raises(NotFound, match="was deleted while its upload ran"):
        processor.complete(upload.upload_id)
    assert list(processor.uploads.unfinished()) == []


def test_an_import_is_not_promised_the_room_of_an_open_upload(store: Store, tmp_path: Path) -> None:
    limits = Limits(quota_bytes=1000, disk_reserve_bytes=0)
    processor = UploadProcessor(store, data_dir=tmp_path, limits=limits)
    processor.open_upload(user=ADA, path="a.tif", length_bytes=600)
    processor.open_upload(user="eve@example.org", path="b.tif", length_bytes=300)

    dataset = importing.begin(processor, user=ADA, url="http://127.0.0.1:9/scan.tif", private_addresses=True)

    (job,) = store.jobs.find(dataset_uuid=dataset.uuid)
    assert job.parameters["limit_bytes"] == 400


# -- what is logged ------------------------------------------------------------------------------


def test_the_log_names_the_data_set_of_each_upload(
    processor: UploadProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="scientistcloud.uploads")
    done, lost = opened(processor), opened(processor, "b.tif")
    sent(processor, done)

    processor.complete(done.upload_id)
    processor.cancel(lost.upload_id)

    said = [taken_apart(line) for line in caplog.messages]
    assert [(event, found["upload_id"], found["dataset_uuid"]) for event, found in said] == [
        ("upload opened", done.upload_id, done.dataset_uuid),
        ("upload opened", lost.upload_id, lost.dataset_uuid),
        ("upload complete", done.upload_id, done.dataset_uuid),
        ("upload given up", lost.upload_id, lost.dataset_uuid),
    ]
    assert said[2][1]["size_bytes"] == len(BYTES)


# -- crash points --------------------------------------------------------------------------------


def crashes_healed(act: str, modules: str, tmp_path: Path) -> int:
    """How many crashes there were, each at another line, all of them healed."""
    program = Path(__file__).with_name("intake_crashes.py")
    said = subprocess.run(
        [sys.executable, str(program), act, modules, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return int(said.stdout.split()[-1])


@pytest.mark.parametrize("act", ["complete", "close"])
def test_a_crash_between_any_two_steps_is_healed_with_exactly_one_job(act: str, tmp_path: Path) -> None:
    assert crashes_healed(act, "receiving.py,closing.py", tmp_path) > 20


def test_a_crash_in_the_round_of_a_small_file_leaves_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    assert crashes_healed("small", "small.py", tmp_path) > 15


@pytest.mark.parametrize(("act", "step"), [("register", "_register"), ("change", "_changed")])
def test_a_registration_that_dies_is_made_whole_by_the_next_look(act: str, step: str, tmp_path: Path) -> None:
    assert crashes_healed(act, step, tmp_path) > 5


@pytest.mark.long
@pytest.mark.parametrize("act", ["complete", "close"])
def test_a_crash_at_any_line_of_intake_is_healed_with_exactly_one_job(act: str, tmp_path: Path) -> None:
    everything = "receiving.py,closing.py,folder.py,session.py,catalogue.py,lifecycle.py,queue.py"

    assert crashes_healed(act, everything, tmp_path) > 100
