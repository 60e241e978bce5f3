"""Small files that are here as a whole, some at once: what of them is kept, and what a crash leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scientistcloud.assembly import open_store
from scientistcloud.datasets import catalogue
from scientistcloud.errors import InvalidParameters, InvalidTransition, NoSpace, NotFound, TooLarge, Unavailable
from scientistcloud.ports import Store
from scientistcloud.records import Dataset
from scientistcloud.uploads import small
from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.processor import UploadProcessor
from scientistcloud.uploads.receiving import SmallFile
from scientistcloud.uploads.record import Upload

ADA = "ada@example.org"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield store
    store.close()


@pytest.fixture
def processor(store: Store, tmp_path: Path) -> UploadProcessor:
    return processor_on(store, tmp_path)


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return catalogue.open_dataset(store, user=ADA, name="slices")


def processor_on(store: Store, tmp_path: Path, **limits: int) -> UploadProcessor:
    known = {"disk_reserve_bytes": 0} | limits
    return UploadProcessor(store, data_dir=tmp_path / "data", limits=Limits(**known))  # type: ignore[arg-type]


def files(dataset: Dataset, **contents: bytes) -> list[SmallFile]:
    return [
        SmallFile(dataset_uuid=dataset.uuid, user=ADA, path=path.replace("_", "/"), content=content)
        for path, content in contents.items()
    ]


def held(processor: UploadProcessor, dataset: Dataset) -> dict[str, bytes]:
    """What is on record of the data set, with what lies in its place."""
    return {
        each.path: processor.places.of(dataset.uuid, each.path).read_bytes()
        for each in processor.store.datasets.files(dataset.uuid)
    }


def left(tmp_path: Path) -> list[str]:
    """What rounds left among the uploads, their folder aside."""
    return [
        path.name for folder in (tmp_path / "data" / "uploads").glob(".small-*") for path in folder.glob("[0-9]*")
    ]


def test_files_of_one_round_are_each_an_upload_that_has_ended(
    processor: UploadProcessor, store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    other = catalogue.open_dataset(store, user=ADA, name="other")

    took = processor.take_small(files(dataset, a=b"1", b_c=b"22") + files(other, a=b""))

    assert held(processor, dataset) == {"a": b"1", "b/c": b"22"}
    assert held(processor, other) == {"a": b""}
    assert left(tmp_path) == []
    again = processor_on(store, tmp_path)  # another process
    for upload, size_bytes in zip(took, (1, 2, 0), strict=True):
        assert isinstance(upload, Upload)
        assert upload.complete
        assert upload.length_bytes == size_bytes
        assert again.known(upload.upload_id) == upload
    with pytest.raises(NotFound):
        again.known(str(took[0].upload_id)[:-8] + 8 * "0")  # type: ignore[union-attr]


def test_a_file_that_cannot_be_taken_does_not_keep_the_others_out(
    processor: UploadProcessor, store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    closed = catalogue.open_dataset(store, user=ADA, name="closed")
    processor.take_small(files(closed, a=b"1"))
    processor.close(closed.uuid, convert=False)

    took = processor.take_small(files(dataset, a=b"1", a_b=b"2", c=b"3") + files(closed, b=b"4"))

    assert [type(each) for each in took] == [Upload, InvalidParameters, Upload, InvalidTransition]
    assert held(processor, dataset) == {"a": b"1", "c": b"3"}
    assert left(tmp_path) == []


def test_the_last_of_one_name_counts(processor: UploadProcessor, dataset: Dataset, tmp_path: Path) -> None:
    twice = [*files(dataset, a=b"first"), *files(dataset, a=b"last")]

    processor.take_small(twice)

    assert held(processor, dataset) == {"a": b"last"}
    assert processor.store.datasets.stored_bytes(user=ADA) == 4


def test_what_was_begun_of_a_file_ends_when_it_comes_whole(processor: UploadProcessor, dataset: Dataset) -> None:
    begun = processor.open_upload(user=ADA, path="a", length_bytes=100, dataset=dataset)

    processor.take_small(files(dataset, a=b"1"))

    assert processor.uploads.get(begun.upload_id) is None
    processor.close(dataset.uuid, convert=False)


def test_limits_hold_for_files_of_one_round_together(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    processor = processor_on(store, tmp_path, quota_bytes=10)

    took = processor.take_small(files(dataset, a=b"123456", b=b"123456"))
    full = processor_on(store, tmp_path, disk_reserve_bytes=2**60).take_small(files(dataset, c=b"1"))

    assert [type(each) for each in took] == [Upload, TooLarge]
    assert isinstance(full[0], NoSpace)
    assert held(processor, dataset) == {"a": b"123456"}


def test_a_round_that_found_no_database_is_finished_by_the_next(
    processor: UploadProcessor, store: Store, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise Unavailable("the database does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(store.datasets, "put_files", silent)
        [refused] = processor.take_small(files(dataset, a=b"1"))
    assert isinstance(refused, Unavailable)
    assert held(processor, dataset) == {}

    processor.take_small(files(dataset, b=b"2"))

    assert held(processor, dataset) == {"a": b"1", "b": b"2"}
    assert left(tmp_path) == []


def test_a_data_set_is_closed_after_the_round_that_is_under_way(
    processor: UploadProcessor, store: Store, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs, go_on = threading.Event(), threading.Event()

    def slow_disk(folder: int, names: list[str]) -> None:
        syncs.set()
        assert go_on.wait(60)

    processor.take_small(files(dataset, a=b"1"))
    other = processor_on(store, tmp_path)  # another portal
    monkeypatch.setattr(small, "sync_files", slow_disk)
    taking = threading.Thread(target=processor.take_small, args=(files(dataset, b=b"2"),))
    closing = threading.Thread(target=other.close, args=(dataset.uuid,), kwargs={"convert": False})

    taking.start()
    assert syncs.wait(60)
    closing.start()
    closing.join(0.2)
    still_open = store.datasets.get(dataset.uuid)
    go_on.set()
    taking.join(60)
    closing.join(60)

    closed = store.datasets.get(dataset.uuid)
    assert still_open is not None
    assert still_open.closed_at is None
    assert closed is not None
    assert closed.closed_at is not None
    assert held(processor, dataset) == {"a": b"1", "b": b"2"}
